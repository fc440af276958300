//! The people of a text, pure: text → tokens → lines → people. The rules are in RULES.md beside `registration`.
//!
//! A piece is taken for what it is: a number by its digits and the label beside it, a name because its words are
//! neither label nor chat. Its place counts only where nothing contradicts it. Whoever cannot be told apart without a
//! guess is asked.

mod drafts;
mod lines;
mod tokens;
mod vocabulary;

pub use drafts::{Draft, drafts, lines as of_text};
pub use lines::{Form, Line, Number, Of, Piece};
