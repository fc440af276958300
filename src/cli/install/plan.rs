//! What has to be done so that the box is as this version wants it: from what was found, without
//! touching anything.

use super::overlay::{FILES, FOLDERS, File, Folder, Keeper, SETTINGS, UNIT};
use super::sandbox::{DROP_INS, DropIn};

/// How a file or folder on the box compares with ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Missing,
    Same,
    /// Owner or mode are not right. Of a file of ours the content is.
    WrongOwner,
    /// The content is another one.
    Differs,
}

/// How the service stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// There is no machine that runs, only a folder with one.
    Elsewhere,
    /// It runs, and from the file that is installed now.
    Running,
    /// It does not run, or from a file that was replaced.
    NotRunning,
}

/// Whether the service starts at boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtBoot {
    Enabled,
    Disabled,
    /// This init system has no place for it that a program may write to.
    ByHand,
}

/// What was found on the box.
#[derive(Debug, Clone)]
pub struct Found {
    pub account: bool,
    /// In the order of [`FOLDERS`] and [`FILES`].
    pub folders: Vec<State>,
    pub files: Vec<State>,
    /// The operator's settings are what the version before brought.
    pub settings_untouched: bool,
    /// The example that the version before brought is another one than ours.
    pub example_changed: bool,
    pub program: State,
    /// In the order of [`DROP_INS`].
    pub drop_ins: Vec<Need>,
    pub at_boot: AtBoot,
    pub service: Service,
}

/// Whether a drop-in that takes lines off a unit's sandbox is needed and there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// Whether the kernel refuses what the lines need; `None`: nobody could be asked.
    pub refused: Option<bool>,
    /// The one that stays.
    pub lasting: State,
    /// Whether there is one until the next boot.
    pub until_boot: bool,
}

/// One thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    CreateAccount,
    MakeFolder(&'static Folder),
    CorrectFolder(&'static Folder),
    Write(&'static File),
    Correct(&'static File),
    /// Switch to the new program; the old one, if there is one, is kept.
    SwitchProgram,
    CorrectProgram,
    /// Take off a unit what the kernel refuses.
    TakeOff(&'static DropIn),
    /// Give a unit back what the kernel does not refuse any more.
    GiveBack(&'static DropIn),
    Enable,
    /// Start it, or start it anew, and wait until it is healthy.
    Start,
}

/// Something that the operator should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// The settings were kept, and there is a new example.
    ExampleChanged,
    EnableByHand,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub steps: Vec<Step>,
    pub notes: Vec<Note>,
}

/// `start`: whether the service may be started.
pub fn plan(found: &Found, start: bool) -> Plan {
    let mut steps = Vec::new();
    let mut notes = Vec::new();
    if !found.account {
        steps.push(Step::CreateAccount);
    }
    for (folder, state) in FOLDERS.iter().zip(&found.folders) {
        match state {
            State::Missing => steps.push(Step::MakeFolder(folder)),
            State::WrongOwner if folder.ours => steps.push(Step::CorrectFolder(folder)),
            State::WrongOwner | State::Same | State::Differs => {}
        }
    }
    let mut settings_kept = false;
    for (file, state) in FILES.iter().zip(&found.files) {
        let settings = file.path == SETTINGS;
        match (file.keeper, state) {
            (_, State::Same) => {}
            (_, State::Missing) | (Keeper::Version, State::Differs) => steps.push(Step::Write(file)),
            (_, State::WrongOwner) => steps.push(Step::Correct(file)),
            (Keeper::Operator, State::Differs) if settings && found.settings_untouched => {
                steps.push(Step::Write(file));
            }
            (Keeper::Operator, State::Differs) => settings_kept |= settings,
        }
    }
    match found.program {
        State::Same => {}
        State::WrongOwner => steps.push(Step::CorrectProgram),
        State::Missing | State::Differs => steps.push(Step::SwitchProgram),
    }
    for (drop_in, need) in DROP_INS.iter().zip(&found.drop_ins) {
        match need.refused {
            Some(true) if need.lasting != State::Same => steps.push(Step::TakeOff(drop_in)),
            Some(false) if need.lasting != State::Missing || need.until_boot => {
                steps.push(Step::GiveBack(drop_in));
            }
            Some(_) | None => {}
        }
    }
    if found.at_boot == AtBoot::Disabled {
        steps.push(Step::Enable);
    }
    let concerns_process = |step: &Step| match step {
        Step::SwitchProgram => true,
        Step::TakeOff(drop_in) | Step::GiveBack(drop_in) => drop_in.unit == UNIT,
        Step::Write(file) => file.path.contains("/system/") || file.path.ends_with("/supervise"),
        _ => false,
    };
    match found.service {
        Service::Elsewhere => {}
        Service::Running if !steps.iter().any(concerns_process) => {}
        Service::Running | Service::NotRunning if start => steps.push(Step::Start),
        Service::Running | Service::NotRunning => {}
    }
    if settings_kept && found.example_changed {
        notes.push(Note::ExampleChanged);
    }
    if found.at_boot == AtBoot::ByHand {
        notes.push(Note::EnableByHand);
    }
    Plan { steps, notes }
}

#[cfg(test)]
mod tests {
    use super::super::overlay::{DATA, EXAMPLE};
    use super::*;

    const GIVEN: Need = Need { refused: Some(false), lasting: State::Missing, until_boot: false };
    const REFUSED: Need = Need { refused: Some(true), ..GIVEN };

    fn installed() -> Found {
        Found {
            account: true,
            folders: vec![State::Same; FOLDERS.len()],
            files: vec![State::Same; FILES.len()],
            settings_untouched: false,
            example_changed: false,
            program: State::Same,
            drop_ins: vec![GIVEN; DROP_INS.len()],
            at_boot: AtBoot::Enabled,
            service: Service::Running,
        }
    }

    fn bare() -> Found {
        Found {
            account: false,
            folders: vec![State::Missing; FOLDERS.len()],
            files: vec![State::Missing; FILES.len()],
            program: State::Missing,
            at_boot: AtBoot::Disabled,
            service: Service::NotRunning,
            ..installed()
        }
    }

    fn with_file(path: &str, state: State) -> Found {
        let mut found = installed();
        found.files[FILES.iter().position(|file| file.path == path).unwrap()] = state;
        found
    }

    #[test]
    fn what_is_installed_and_runs_is_left_alone() {
        assert_eq!(plan(&installed(), true), Plan { steps: vec![], notes: vec![] });
        assert_eq!(plan(&installed(), false).steps, []);
    }

    #[test]
    fn on_a_bare_box_nothing_starts_before_everything_is_in_place() {
        let steps = plan(&bare(), true).steps;
        assert_eq!(steps[0], Step::CreateAccount);
        let place = |wanted: fn(&Step) -> bool| steps.iter().position(wanted).unwrap();
        let last_folder = steps.iter().rposition(|step| matches!(step, Step::MakeFolder(_))).unwrap();
        let first_file = place(|step| matches!(step, Step::Write(_)));
        let program = place(|step| *step == Step::SwitchProgram);
        assert!(last_folder < first_file && first_file < program);
        assert_eq!(steps[program + 1..], [Step::Enable, Step::Start]);
        assert_eq!(steps.len(), 1 + FOLDERS.len() + FILES.len() + 3);
        assert!(!plan(&bare(), false).steps.contains(&Step::Start));
    }

    #[test]
    fn a_folder_with_a_machine_in_it_is_not_started() {
        let found = Found { service: Service::Elsewhere, ..bare() };
        assert!(!plan(&found, true).steps.contains(&Step::Start));
    }

    #[test]
    fn the_operators_settings_stay_and_a_new_example_is_told() {
        let file = FILES.iter().find(|file| file.path == SETTINGS).unwrap();
        let mut found = with_file(SETTINGS, State::Differs);
        assert_eq!(plan(&found, true), Plan { steps: vec![], notes: vec![] });
        found.example_changed = true;
        assert_eq!(plan(&found, true).notes, [Note::ExampleChanged]);
        // Nobody has changed them since they were written.
        found.settings_untouched = true;
        assert_eq!(plan(&found, true), Plan { steps: vec![Step::Write(file)], notes: vec![] });
    }

    #[test]
    fn a_new_version_of_a_file_restarts_the_bot_only_if_the_process_depends_on_it() {
        assert!(!plan(&with_file(EXAMPLE, State::Differs), true).steps.contains(&Step::Start));
        let unit = "usr/local/lib/systemd/system/bot-kjp.service";
        assert_eq!(plan(&with_file(unit, State::Differs), true).steps.last(), Some(&Step::Start));
        let newer = Found { program: State::Differs, ..installed() };
        assert_eq!(plan(&newer, true).steps, [Step::SwitchProgram, Step::Start]);
    }

    /// A box that is installed, but for what `need` says of one drop-in.
    fn with_drop_in(at: usize, need: Need) -> Found {
        let mut found = installed();
        found.drop_ins[at] = need;
        found
    }

    #[test]
    fn what_the_kernel_refuses_is_taken_off_once_before_anything_starts_and_given_back() {
        for (at, drop_in) in DROP_INS.iter().enumerate() {
            let steps = |need| plan(&with_drop_in(at, need), true).steps;
            // Only the bot's own sandbox is a reason to start it anew.
            let then_start = |step| match drop_in.unit == UNIT {
                true => vec![step, Step::Start],
                false => vec![step],
            };
            let (off, back) = (Step::TakeOff(drop_in), Step::GiveBack(drop_in));
            assert_eq!(steps(REFUSED), then_start(off));
            assert_eq!(steps(Need { until_boot: true, ..REFUSED }), then_start(off));
            assert_eq!(steps(Need { lasting: State::Differs, ..REFUSED }), then_start(off));
            assert_eq!(steps(Need { lasting: State::Same, ..REFUSED }), []);
            assert_eq!(steps(Need { lasting: State::Same, ..GIVEN }), then_start(back));
            assert_eq!(steps(Need { until_boot: true, ..GIVEN }), then_start(back));
            // In a folder with a machine, or without systemd.
            assert_eq!(steps(Need { refused: None, lasting: State::Same, until_boot: true }), []);
        }
        let steps = plan(&Found { drop_ins: vec![REFUSED; DROP_INS.len()], ..bare() }, true).steps;
        assert_eq!(steps[steps.len() - 3 - DROP_INS.len()], Step::SwitchProgram);
        assert_eq!(steps[steps.len() - 2..], [Step::Enable, Step::Start]);
    }

    #[test]
    fn a_secret_that_others_can_read_is_closed_and_kept() {
        let file = FILES.iter().find(|file| file.path == "etc/default/bot-kjp").unwrap();
        assert_eq!(plan(&with_file(file.path, State::WrongOwner), true).steps, [Step::Correct(file)]);
    }

    #[test]
    fn a_wrong_owner_is_corrected_where_the_folder_is_ours() {
        let mut found = installed();
        found.folders = vec![State::WrongOwner; FOLDERS.len()];
        let corrected: Vec<_> = plan(&found, true)
            .steps
            .into_iter()
            .map(|step| match step {
                Step::CorrectFolder(folder) => folder.path,
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(corrected.contains(&DATA) && !corrected.contains(&"etc/init.d"), "{corrected:?}");
    }

    #[test]
    fn where_nothing_can_be_enabled_the_operator_is_told() {
        let found = Found { at_boot: AtBoot::ByHand, ..installed() };
        assert_eq!(plan(&found, true), Plan { steps: vec![], notes: vec![Note::EnableByHand] });
    }
}
