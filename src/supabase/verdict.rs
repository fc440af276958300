//! What an answer of Supabase means. [`judge`] is the only place that decides it; sync only obeys.
//!
//! Codes: PostgREST's error reference (`PGRST…`) and PostgreSQL's appendix A (SQLSTATE, five
//! characters, the first two being the class).

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use super::client::Answer;
use crate::ledger::registration::RowKey;
use crate::ledger::sync_queue::RowVerdict;
use crate::registration::ClashField;

/// What to do after an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Every row of the request has its verdict, in the order of the request.
    Rows(Vec<(RowKey, RowVerdict)>),
    /// Send the same again after a while, not before `after`.
    Retry { reason: Reason, after: Option<Duration> },
    /// Send fewer rows at a time: the request is too much for the server, or one of its rows makes
    /// all of them fail and has to be found. Never said of a single row.
    HalveBatch { reason: Reason },
    /// The one row of the request cannot be stored as it is, or nothing can: one answer alone does not tell.
    Quarantine { code: String, message: String },
    /// The server does not know the function or the table. It reads the schema anew at this moment, or the SQL
    /// was never run: only waiting some seconds tells. If that does not help, [`Action::InstallSchema`].
    NotKnown { reason: Reason },
    /// Nothing can be stored until a person does something. Rows wait.
    Operator(Action),
    /// The bot asks for something that makes no sense to the server. Rows wait.
    Bug(Reason),
}

/// What was answered, short and without personal data: fit for logs and status pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason(String);

impl Reason {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a person has to do in Supabase or in the bot's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// The key is unknown, disabled, expired or of another project.
    CheckKey,
    /// The key is the public one: row level security or a missing grant stops it.
    UseSecretKey,
    /// The role may not call the function or use the table.
    GrantRights,
    /// The function, the table or a column is missing, or is not the one of this version.
    InstallSchema,
    /// What answers at the URL is no Supabase data API.
    CheckUrl,
    /// The project is read-only, which Supabase does when its disk is full.
    FreeDiskSpace,
    /// Every request is refused, also one without rows: a setting of the database role that does not hold, or a
    /// key whose role does not exist.
    CheckRole,
    /// Requests pass, and one row after another is refused for the same reason: a rule of the table.
    CheckTable,
    /// Supabase has closed the project's API for its quota or its bill (HTTP 402).
    LiftRestriction,
    /// Something on the way answers in Supabase's place: a portal that wants a log-in, a firewall, the provider.
    ClearTheWay,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::CheckKey,
        Self::UseSecretKey,
        Self::GrantRights,
        Self::InstallSchema,
        Self::CheckUrl,
        Self::FreeDiskSpace,
        Self::CheckRole,
        Self::CheckTable,
        Self::LiftRestriction,
        Self::ClearTheWay,
    ];
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CheckKey => "Supabase does not accept the key: set the project's secret key",
            Self::UseSecretKey => "the Supabase key is the public one: set the project's secret key",
            Self::GrantRights => {
                "the Supabase key may not store rows: run the SQL of `bot-kjp schema` in the project"
            }
            Self::InstallSchema => {
                "Supabase lacks the bot's tables or functions: run the SQL of `bot-kjp schema` in the project"
            }
            Self::CheckUrl => "no Supabase project answers at the Supabase URL: check the URL",
            Self::FreeDiskSpace => "the Supabase project is read-only, its disk is full: free space there",
            Self::CheckRole => {
                "Supabase refuses every request, whatever is in it: check the settings of its role and the key"
            }
            Self::CheckTable => {
                "Supabase refuses one row after another for the same reason: check the rules of data_harian"
            }
            Self::LiftRestriction => "Supabase has restricted the project for its quota or its bill: lift that",
            Self::ClearTheWay => {
                "a portal or firewall answers in Supabase's place: log in there or use another line"
            }
        })
    }
}

/// PostgREST's error body.
#[derive(Deserialize)]
struct Problem {
    code: Option<String>,
    #[serde(default)]
    message: String,
}

/// One element of what `register_batch` returns.
#[derive(Deserialize)]
struct Element {
    row_key: String,
    outcome: String,
    field: Option<String>,
    code: Option<String>,
    message: Option<String>,
}

/// Judges the answer to a request that held `sent`, in this order. A request without rows tells whether there is
/// a way for any: [`Verdict::Rows`] then holds none, and no row is at fault for anything else.
pub fn judge(answer: &Answer, sent: &[RowKey]) -> Verdict {
    let (status, retry_after, body) = match answer {
        Answer::None { reason } => return retry(Reason::new(without_numbers(reason)), None),
        Answer::Http { status, retry_after, body } => (*status, *retry_after, body.as_str()),
    };
    if matches!(status, 200..=299) {
        return row_verdicts(body, sent);
    }
    let foreign = is_foreign(body);
    let problem: Option<Problem> = serde_json::from_str(body).ok();
    let code = problem.as_ref().and_then(|problem| problem.code.as_deref()).unwrap_or("");
    let message = problem.as_ref().map_or("", |problem| problem.message.as_str());
    let reason = Reason::new(match code {
        "" if foreign => format!("HTTP {status}, no JSON"),
        "" => format!("HTTP {status}"),
        code => format!("HTTP {status}, code {}", without_numbers(&excerpt(code))),
    });
    let class = if code.len() == 5 { code.get(..2).unwrap_or("") } else { "" };
    match (code, class) {
        ("57014", _) => return fewer(sent, reason, retry_after),
        // The connection pool, the schema cache, the JWT secret of PostgREST itself.
        ("PGRST000" | "PGRST001" | "PGRST002" | "PGRST003" | "PGRST300", _)
        | ("40001" | "40P01", _)
        | (_, "08" | "53" | "57" | "58" | "XX") => return retry(reason, retry_after),
        ("42501", _) => {
            return Verdict::Operator(if message.contains("row-level security") || status == 401 {
                Action::UseSecretKey
            } else {
                Action::GrantRights
            });
        }
        ("25006", _) => return Verdict::Operator(Action::FreeDiskSpace),
        ("PGRST301" | "PGRST302" | "PGRST303", _) => return Verdict::Operator(Action::CheckKey),
        ("PGRST202" | "PGRST204" | "PGRST205", _) => return Verdict::NotKnown { reason },
        ("PGRST203", _) | (_, "42") => return Verdict::Operator(Action::InstallSchema),
        ("P0001", _) | (_, "22" | "23") => return culprit(sent, code, message, reason),
        (code, _) if code.starts_with("PGRST") => return Verdict::Bug(reason),
        _ => {}
    }
    match status {
        // "Network authentication required" (RFC 6585 §6) is said by portals only, "proxy authentication required"
        // by proxies, "unavailable for legal reasons" (RFC 7725) by whoever blocks.
        407 | 451 | 511 => Verdict::Operator(Action::ClearTheWay),
        408 | 429 | 500..=599 => retry(reason, retry_after),
        413 => fewer(sent, reason, retry_after),
        // PostgREST, for a table that it does not know yet.
        404 if body.trim() == "{}" => Verdict::NotKnown { reason },
        404 | 405 | 410 if foreign => Verdict::Operator(Action::CheckUrl),
        // A project moves nowhere, but `http://` is sent to `https://` for good. For the moment, portals do it.
        302 | 303 | 307 => Verdict::Operator(Action::ClearTheWay),
        300..=399 | 404 | 410 => Verdict::Operator(Action::CheckUrl),
        _ if foreign => Verdict::Operator(Action::ClearTheWay),
        401 | 403 => Verdict::Operator(Action::CheckKey),
        402 => Verdict::Operator(Action::LiftRestriction),
        _ => Verdict::Bug(reason),
    }
}

/// Whether a body is something else than JSON, which is all that Supabase's API and its gateway send.
fn is_foreign(body: &str) -> bool {
    !body.trim().is_empty() && serde_json::from_str::<serde::de::IgnoredAny>(body).is_err()
}

fn retry(reason: Reason, after: Option<Duration>) -> Verdict {
    Verdict::Retry { reason, after }
}

/// Too much at once, unless it is one row only.
fn fewer(sent: &[RowKey], reason: Reason, after: Option<Duration>) -> Verdict {
    if sent.len() > 1 { Verdict::HalveBatch { reason } } else { retry(reason, after) }
}

/// One of the rows made the whole request fail, past the function's own handling (a deferred
/// constraint, a trigger). Halving finds it.
fn culprit(sent: &[RowKey], code: &str, message: &str, reason: Reason) -> Verdict {
    let row_key = match sent {
        // Without rows none is at fault.
        [] => return Verdict::Operator(Action::CheckRole),
        &[row_key] => row_key,
        _ => return Verdict::HalveBatch { reason },
    };
    let row = match (code, field_in_rule(message)) {
        ("23505", Some(Rule::RowKey)) => RowVerdict::Stored,
        ("23505", Some(Rule::Field(field))) => RowVerdict::Duplicate(field),
        _ => {
            return Verdict::Quarantine { code: excerpt(code), message: excerpt(&without_numbers(message)) };
        }
    };
    Verdict::Rows(vec![(row_key, row)])
}

enum Rule {
    RowKey,
    Field(ClashField),
}

/// The rule that PostgreSQL's message about a unique constraint names.
fn field_in_rule(message: &str) -> Option<Rule> {
    let rule = message.split('"').nth(1)?;
    if rule.contains("row_key") {
        Some(Rule::RowKey)
    } else if rule.contains("kjp") {
        Some(Rule::Field(ClashField::Kjp))
    } else if rule.contains("ktp") {
        Some(Rule::Field(ClashField::Ktp))
    } else if rule.contains("nama") || rule.contains("name") {
        Some(Rule::Field(ClashField::Nama))
    } else {
        None
    }
}

fn row_verdicts(body: &str, sent: &[RowKey]) -> Verdict {
    let Ok(value) = serde_json::from_str::<serde_json::Value>(body) else {
        // A portal that wants a log-in, or some other server.
        let page = body.trim_start().starts_with('<');
        return Verdict::Operator(if page { Action::ClearTheWay } else { Action::CheckUrl });
    };
    let bug = |what: &str| Verdict::Bug(Reason::new(format!("register_batch answered {what}")));
    let Ok(elements) = serde_json::from_value::<Vec<Element>>(value) else {
        return bug("something else than verdicts");
    };
    if elements.len() != sent.len() {
        return bug("another number of verdicts than rows");
    }
    let mut rows = Vec::with_capacity(sent.len());
    for (element, &row_key) in elements.into_iter().zip(sent) {
        if element.row_key.parse() != Ok(row_key) {
            return bug("a verdict about another row");
        }
        let verdict = match (element.outcome.as_str(), element.field.as_deref()) {
            ("stored", _) => RowVerdict::Stored,
            ("duplicate", Some("no_kjp")) => RowVerdict::Duplicate(ClashField::Kjp),
            ("duplicate", Some("no_ktp")) => RowVerdict::Duplicate(ClashField::Ktp),
            ("duplicate", Some("nama")) => RowVerdict::Duplicate(ClashField::Nama),
            ("rejected", _) => RowVerdict::Rejected {
                code: excerpt(element.code.as_deref().unwrap_or("?")),
                message: excerpt(&without_numbers(element.message.as_deref().unwrap_or(""))),
            },
            _ => return bug("an unknown verdict"),
        };
        rows.push((row_key, verdict));
    }
    Verdict::Rows(rows)
}

/// Digits in a row from which on a number may be a NIK, a card, a phone number or part of one.
const PERSONAL_DIGITS: usize = 6;

/// Replaces longer numbers by `*`: PostgreSQL quotes offending values in its messages.
fn without_numbers(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut digits = String::new();
    for c in text.chars().map(Some).chain([None]) {
        match c {
            Some(c) if c.is_ascii_digit() => digits.push(c),
            other => {
                if digits.len() >= PERSONAL_DIGITS {
                    masked.push('*');
                } else {
                    masked.push_str(&digits);
                }
                digits.clear();
                masked.extend(other);
            }
        }
    }
    masked
}

/// Longest code or message in bytes that is taken over from a server.
const EXCERPT_BYTES: usize = 200;

fn excerpt(text: &str) -> String {
    text[..text.floor_char_boundary(EXCERPT_BYTES)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(count: u32) -> Vec<RowKey> {
        (0..count).map(|n| RowKey::derive("chat", "1", "id", n)).collect()
    }

    fn http(status: u16, body: &str) -> Answer {
        Answer::Http { status, retry_after: None, body: body.into() }
    }

    /// PostgREST's error body.
    fn problem(status: u16, code: &str, message: &str) -> Answer {
        let body = serde_json::json!({"code": code, "details": null, "hint": null, "message": message});
        http(status, &body.to_string())
    }

    fn judged(status: u16, code: &str, message: &str, rows: u32) -> Verdict {
        judge(&problem(status, code, message), &keys(rows))
    }

    fn is_retry(verdict: &Verdict) -> bool {
        matches!(verdict, Verdict::Retry { .. })
    }

    #[test]
    fn no_answer_and_overload_mean_retry() {
        assert!(is_retry(&judge(&Answer::None { reason: "timeout".into() }, &keys(2))));
        for status in [408, 429, 500, 502, 503, 504, 520, 522, 540] {
            for body in ["", "<html>", "{}"] {
                assert!(is_retry(&judge(&http(status, body), &keys(2))), "{status} {body}");
            }
        }
    }

    #[test]
    fn the_server_may_say_how_long_to_wait() {
        let after = Some(Duration::from_secs(7));
        let answer = Answer::Http { status: 429, retry_after: after, body: String::new() };
        assert!(matches!(judge(&answer, &keys(1)), Verdict::Retry { after: told, .. } if told == after));
    }

    #[test]
    fn troubles_inside_the_server_mean_retry() {
        for (status, code) in [
            (503, "PGRST000"),
            (503, "PGRST001"),
            (503, "PGRST002"),
            (504, "PGRST003"),
            (503, "08006"),
            (503, "53300"),
            (500, "53400"),
            (500, "57P01"),
            (500, "40001"),
            (500, "40P01"),
            (500, "58030"),
            (500, "XX000"),
        ] {
            assert!(is_retry(&judged(status, code, "", 2)), "{code}");
        }
    }

    #[test]
    fn too_much_at_once_halves_the_batch_down_to_one_row() {
        for (answer, name) in [(problem(500, "57014", ""), "57014"), (http(413, ""), "413")] {
            assert!(matches!(judge(&answer, &keys(2)), Verdict::HalveBatch { .. }), "{name}");
            assert!(is_retry(&judge(&answer, &keys(1))), "{name}");
        }
    }

    #[test]
    fn a_key_that_is_not_accepted_is_for_the_operator() {
        for (status, code) in [(401, "PGRST301"), (401, "PGRST302"), (401, "PGRST303")] {
            assert_eq!(judged(status, code, "", 2), Verdict::Operator(Action::CheckKey));
        }
        for body in ["", r#"{"message":"Invalid API key"}"#] {
            assert_eq!(judge(&http(401, body), &keys(2)), Verdict::Operator(Action::CheckKey));
        }
    }

    #[test]
    fn missing_rights_are_told_apart_from_the_wrong_key() {
        let denied = "permission denied for function register_batch";
        assert_eq!(judged(403, "42501", denied, 2), Verdict::Operator(Action::GrantRights));
        assert_eq!(judged(401, "42501", denied, 2), Verdict::Operator(Action::UseSecretKey));
        let policy = "new row violates row-level security policy for table \"data_harian\"";
        assert_eq!(judged(403, "42501", policy, 2), Verdict::Operator(Action::UseSecretKey));
    }

    #[test]
    fn a_missing_schema_is_for_the_operator() {
        for (status, code) in [(404, "42P01"), (404, "42883"), (400, "42703"), (300, "PGRST203")] {
            assert_eq!(judged(status, code, "", 2), Verdict::Operator(Action::InstallSchema), "{code}");
        }
    }

    #[test]
    fn what_the_schema_cache_lacks_may_come_by_itself() {
        for (status, code) in [(404, "PGRST205"), (404, "PGRST202"), (400, "PGRST204")] {
            assert!(matches!(judged(status, code, "", 2), Verdict::NotKnown { .. }), "{code}");
        }
        for body in ["{}", "{}\n"] {
            assert!(matches!(judge(&http(404, body), &keys(2)), Verdict::NotKnown { .. }), "{body:?}");
        }
    }

    /// As Cloudflare's page begins, shortened; not seen in front of Supabase.
    const FIREWALL: &str = "<!DOCTYPE html>\n<!--[if lt IE 7]> <html class=\"no-js ie6 oldie\" lang=\"en-US\"> \
        <![endif]-->\n<head><title>Attention Required! | Cloudflare</title></head><body><h1>Sorry, you have been \
        blocked</h1><h2>You are unable to access supabase.co</h2></body></html>";

    /// As routers of hotels and shops answer.
    const PORTAL: &str = "<html><head><meta http-equiv=\"refresh\" content=\"0; url=http://10.5.50.1/login\"></head>\
        <body></body></html>";

    /// What Supabase, its gateway, its firewall and what stands in between answer, with what it means for two rows.
    /// PostgREST's bodies are as it sent them to the tests; those of 402, of the gateway and of the pages follow
    /// public reports.
    #[test]
    fn each_answer_has_its_meaning() {
        let operator = Verdict::Operator;
        let not_known = |reason: &str| Verdict::NotKnown { reason: Reason::new(reason) };
        let retry = |reason: &str| Verdict::Retry { reason: Reason::new(reason), after: None };
        let page = |status| format!("HTTP {status}, no JSON");
        let table: &[(u16, &str, Verdict)] = &[
            (
                404,
                r#"{"code":"PGRST202","details":"Searched for the function public.register_batch with parameter rows or with a single unnamed json/jsonb parameter, but no matches were found in the schema cache.","hint":null,"message":"Could not find the function public.register_batch(rows) in the schema cache"}"#,
                not_known("HTTP 404, code PGRST202"),
            ),
            (404, "{}", not_known("HTTP 404")),
            (
                402,
                r#"{"message":"Service for this project is restricted due to the following violations: exceed_egress_quota. The project owner must upgrade their plan or remove spend caps to restore service."}"#,
                operator(Action::LiftRestriction),
            ),
            (
                402,
                r#"{"message":"Service for this project is restricted due to the following violations: overdue_payment."}"#,
                operator(Action::LiftRestriction),
            ),
            (402, PORTAL, operator(Action::ClearTheWay)),
            (
                401,
                r#"{"message":"Invalid API key","hint":"Double check your Supabase `anon` or `service_role` API key."}"#,
                operator(Action::CheckKey),
            ),
            (401, r#"{"message":"No API key found in request"}"#, operator(Action::CheckKey)),
            (
                401,
                r#"{"code":"PGRST301","details":null,"hint":null,"message":"JWSError (CompactDecodeError Invalid number of parts: Expected 3 parts; got 1)"}"#,
                operator(Action::CheckKey),
            ),
            (
                401,
                "<html>\r\n<head><title>401 Authorization Required</title></head>\r\n<body>\r\n<center><h1>401 Authorization Required</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n",
                operator(Action::ClearTheWay),
            ),
            (403, FIREWALL, operator(Action::ClearTheWay)),
            (403, "error code: 1020", operator(Action::ClearTheWay)),
            (403, r#"{"message":"Forbidden"}"#, operator(Action::CheckKey)),
            (200, PORTAL, operator(Action::ClearTheWay)),
            (200, "OK", operator(Action::CheckUrl)),
            (302, "", operator(Action::ClearTheWay)),
            (302, PORTAL, operator(Action::ClearTheWay)),
            (
                301,
                "<html><head><title>301 Moved Permanently</title></head></html>",
                operator(Action::CheckUrl),
            ),
            (407, "", operator(Action::ClearTheWay)),
            (451, "<html>Internet Positif</html>", operator(Action::ClearTheWay)),
            (511, PORTAL, operator(Action::ClearTheWay)),
            (
                400,
                "<html>\r\n<head><title>400 Bad Request</title></head></html>",
                operator(Action::ClearTheWay),
            ),
            (404, r#"{"message":"no Route matched with those values"}"#, operator(Action::CheckUrl)),
            (
                404,
                "<!DOCTYPE html><html><head><title>404: This page could not be found</title></head></html>",
                operator(Action::CheckUrl),
            ),
            (405, "<html>\r\n<head><title>405 Not Allowed</title></head></html>", operator(Action::CheckUrl)),
            (
                405,
                r#"{"code":"25006","details":null,"hint":null,"message":"cannot execute INSERT in a read-only transaction"}"#,
                operator(Action::FreeDiskSpace),
            ),
            (500, "<html>500</html>", retry(&page(500))),
            (
                502,
                "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n</body>\r\n</html>\r\n",
                retry(&page(502)),
            ),
            (503, r#"{"message":"name resolution failed"}"#, retry("HTTP 503")),
            (
                503,
                r#"{"code":"PGRST002","details":null,"hint":null,"message":"Could not query the database for the schema cache. Retrying."}"#,
                retry("HTTP 503, code PGRST002"),
            ),
            (
                521,
                "<!DOCTYPE html><html><head><title>supabase.co | 521: Web server is down</title></head></html>",
                retry(&page(521)),
            ),
            (522, "error code: 522", retry(&page(522))),
            (540, "", retry("HTTP 540")),
        ];
        for (status, body, meaning) in table {
            assert_eq!(judge(&http(*status, body), &keys(2)), *meaning, "{status} {body}");
        }
    }

    #[test]
    fn when_a_request_without_rows_fails_no_row_is_at_fault() {
        for (code, message) in [
            ("22023", "invalid value for parameter \"work_mem\": \"16mb\""),
            ("22023", "role \"service_role\" does not exist"),
            ("P0001", "closed"),
            ("23505", "duplicate key value violates unique constraint \"data_harian_row_key\""),
        ] {
            assert_eq!(judged(400, code, message, 0), Verdict::Operator(Action::CheckRole), "{message}");
            assert!(matches!(judged(400, code, message, 2), Verdict::HalveBatch { .. }), "{message}");
        }
        assert!(is_retry(&judged(500, "57014", "", 0)));
        assert_eq!(judge(&http(200, "[]"), &[]), Verdict::Rows(vec![]));
    }

    #[test]
    fn a_full_project_and_a_wrong_url_are_for_the_operator() {
        assert_eq!(judged(405, "25006", "", 2), Verdict::Operator(Action::FreeDiskSpace));
        for answer in [http(404, "not found"), http(308, "")] {
            assert_eq!(judge(&answer, &keys(2)), Verdict::Operator(Action::CheckUrl));
        }
    }

    #[test]
    fn a_row_that_fails_its_whole_batch_is_found_and_quarantined_alone() {
        for (status, code) in [(400, "22007"), (400, "23502"), (409, "23503"), (400, "23514"), (400, "P0001")]
        {
            assert!(matches!(judged(status, code, "", 2), Verdict::HalveBatch { .. }), "{code}");
            let alone = judged(status, code, "value \"3171010101900000\" is bad", 1);
            let expected = Verdict::Quarantine { code: code.into(), message: "value \"*\" is bad".into() };
            assert_eq!(alone, expected, "{code}");
        }
    }

    #[test]
    fn a_unique_violation_of_a_single_row_is_its_verdict() {
        let row = |rule: &str| {
            let message = format!("duplicate key value violates unique constraint \"{rule}\"");
            judged(409, "23505", &message, 1)
        };
        let rows = |verdict| Verdict::Rows(vec![(keys(1)[0], verdict)]);
        assert_eq!(row("data_harian_row_key"), rows(RowVerdict::Stored));
        assert_eq!(row("unique_ktp_per_processing_day"), rows(RowVerdict::Duplicate(ClashField::Ktp)));
        assert_eq!(row("data_harian_day_kjp"), rows(RowVerdict::Duplicate(ClashField::Kjp)));
        assert_eq!(row("unique_nama_sender_per_day"), rows(RowVerdict::Duplicate(ClashField::Nama)));
        assert!(matches!(row("something_else"), Verdict::Quarantine { .. }));
        assert!(matches!(judged(409, "23505", "", 2), Verdict::HalveBatch { .. }));
    }

    #[test]
    fn a_request_that_makes_no_sense_to_the_server_is_a_bug() {
        for (status, code) in [
            (400, "PGRST100"),
            (400, "PGRST102"),
            (406, "PGRST106"),
            (405, "PGRST117"),
            (406, "PGRST107"),
            (400, "PGRST122"),
        ] {
            assert!(matches!(judged(status, code, "", 2), Verdict::Bug(_)), "{code}");
        }
        for status in [405, 406, 416] {
            assert!(matches!(judge(&http(status, ""), &keys(2)), Verdict::Bug(_)), "{status}");
        }
    }

    #[test]
    fn every_row_gets_its_own_verdict() {
        let sent = keys(5);
        let body = serde_json::json!([
            {"row_key": sent[0].to_string(), "outcome": "stored"},
            {"row_key": sent[1].to_string(), "outcome": "duplicate", "field": "no_kjp"},
            {"row_key": sent[2].to_string(), "outcome": "duplicate", "field": "no_ktp"},
            {"row_key": sent[3].to_string(), "outcome": "duplicate", "field": "nama"},
            {"row_key": sent[4].to_string(), "outcome": "rejected", "code": "22008",
             "message": "out of range: \"31710101-019000000\""},
        ]);
        let verdicts = vec![
            (sent[0], RowVerdict::Stored),
            (sent[1], RowVerdict::Duplicate(ClashField::Kjp)),
            (sent[2], RowVerdict::Duplicate(ClashField::Ktp)),
            (sent[3], RowVerdict::Duplicate(ClashField::Nama)),
            (sent[4], RowVerdict::Rejected { code: "22008".into(), message: "out of range: \"*-*\"".into() }),
        ];
        assert_eq!(judge(&http(200, &body.to_string()), &sent), Verdict::Rows(verdicts));
    }

    #[test]
    fn verdicts_that_do_not_fit_the_rows_are_a_bug_and_confirm_nothing() {
        let sent = keys(2);
        let stored = |key: &RowKey| serde_json::json!({"row_key": key.to_string(), "outcome": "stored"});
        for body in [
            serde_json::json!([stored(&sent[0])]),
            serde_json::json!([stored(&sent[1]), stored(&sent[0])]),
            serde_json::json!([stored(&sent[0]), stored(&sent[1]), stored(&sent[1])]),
            serde_json::json!([stored(&sent[0]), {"row_key": sent[1].to_string(), "outcome": "?"}]),
            serde_json::json!({"rows": []}),
            serde_json::json!(null),
        ] {
            assert!(matches!(judge(&http(200, &body.to_string()), &sent), Verdict::Bug(_)), "{body}");
        }
    }

    proptest! {
        /// Any status, code and text gets a verdict, rows are never split below one, and no long
        /// number gets through.
        #[test]
        fn every_answer_has_a_verdict_without_personal_numbers(
            status in 100..600_u16,
            code in "PGRST[0-9]{3}|[0-9A-Z]{5}|\\PC{0,8}",
            text in "\\PC{0,30}",
            rows in 0..4_u32,
        ) {
            let message = format!("{text} 3171010101900000 {text}");
            let verdict = judged(status, &code, &message, rows);
            let shown = format!("{verdict:?}");
            prop_assert!(!shown.contains("3171010101900000"));
            if let Verdict::Quarantine { .. } = verdict {
                prop_assert_eq!(rows, 1);
            }
            if let Verdict::HalveBatch { .. } = verdict {
                prop_assert!(rows > 1);
            }
        }
    }
}
