//! The configuration as documentation, made from the declared keys: the README's table (English)
//! and the annotated example file (Indonesian: the operator reads it).

use super::key::{self, Initial};
use super::secret::{CREDENTIALS_VARIABLE, KEY_CREDENTIAL, KEY_VARIABLE, OLD_KEY_VARIABLE, URL_VARIABLE};
use super::{DEFAULT_FILE, FILE_VARIABLE};

/// Widest line of the example file, in characters: it is edited over SSH in a small terminal.
const LINE_WIDTH: usize = 78;

/// The tables of keys and environment variables for the README, in Markdown.
pub fn markdown_table() -> String {
    let mut table = String::from("| key | allowed | default | meaning |\n| --- | --- | --- | --- |\n");
    for key in key::all() {
        let default = match key.initial {
            Initial::Default(toml) => format!("`{toml}`"),
            Initial::Unset(_) => "not set".to_owned(),
        };
        table.push_str(&format!("| `{}` | {} | {default} | {} |\n", key.path, key.allowed, key.doc));
    }
    table.push_str("\n| environment variable | meaning |\n| --- | --- |\n");
    let variables = [
        (
            FILE_VARIABLE,
            format!("Path of the configuration file; if not set, `{DEFAULT_FILE}` if that exists."),
        ),
        (URL_VARIABLE, "Address of the Supabase project; wins over `supabase.url`.".to_owned()),
        (KEY_VARIABLE, "Secret key of the Supabase project; never in the file.".to_owned()),
        (
            CREDENTIALS_VARIABLE,
            format!(
                "Set by systemd; the credential `{KEY_CREDENTIAL}` is the key if `{KEY_VARIABLE}` is not set."
            ),
        ),
        (OLD_KEY_VARIABLE, format!("Old name of `{KEY_VARIABLE}`; works with a warning.")),
    ];
    for (name, meaning) in variables {
        table.push_str(&format!("| `{name}` | {meaning} |\n"));
    }
    table
}

/// A configuration file that changes nothing: every key with its meaning, commented out.
pub fn example() -> String {
    let mut file = String::new();
    comment(
        &mut file,
        &format!(
            "Konfigurasi bot-kjp ({DEFAULT_FILE}). Semua baris boleh kosong: bot berjalan tanpa berkas ini. \
             Hapus tanda # di depan sebuah kunci untuk mengubah nilainya, lalu periksa dengan perintah: \
             bot-kjp check"
        ),
    );
    comment(
        &mut file,
        &format!(
            "Kunci rahasia Supabase TIDAK ditulis di sini, melainkan di variabel lingkungan {KEY_VARIABLE} \
             atau kredensial systemd {KEY_CREDENTIAL}."
        ),
    );
    let mut section = "";
    for key in key::all() {
        if key.section != section {
            section = key.section;
            file.push_str(&format!("\n[{section}]\n"));
        }
        comment(&mut file, key.penjelasan);
        let toml = match key.initial {
            Initial::Default(toml) => toml,
            Initial::Unset(toml) => {
                comment(&mut file, "Tanpa nilai bawaan; contoh:");
                toml
            }
        };
        file.push_str(&format!("#{} = {toml}\n", key.name));
    }
    file
}

/// Appends `text` as comment lines broken between words.
fn comment(file: &mut String, text: &str) {
    let mut width = usize::MAX;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if width.saturating_add(1 + length) > LINE_WIDTH {
            if width != usize::MAX {
                file.push('\n');
            }
            file.push('#');
            width = 1;
        }
        file.push(' ');
        file.push_str(word);
        width += 1 + length;
    }
    file.push('\n');
}
