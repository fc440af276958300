//! The line that the operator pastes into the console of a browser at web.whatsapp.com.
//!
//! It draws a button, since a browser lets a passkey sign only after a click; the click asks for the passkey
//! and leaves the answer in a text field, selected, and in the clipboard if the browser permits that. A
//! second click copies once more: what a console does is no click, and some browsers want one to copy.
//!
//! One line, a function that is called at once: it can be pasted twice. It makes elements and text, never
//! HTML, so that the page's content security policy has no objection.

use serde_json::Value;

use super::request::{PasskeyRequest, ascii};

/// What the button says.
#[derive(Debug, Clone, Copy)]
pub struct Words<'a> {
    pub click: &'a str,
    pub working: &'a str,
    /// The answer is in the clipboard, and in the field.
    pub copied: &'a str,
    /// The answer is in the field only; another click copies it.
    pub click_to_copy: &'a str,
    /// Before the browser's own words.
    pub failed: &'a str,
    /// The browser lacks what is needed.
    pub too_old: &'a str,
}

/// Id of the button, for who drives a browser.
pub const BUTTON: &str = "bot-kjp";

/// Id of the field with the answer.
pub const FIELD: &str = "bot-kjp-jawaban";

/// What runs in the page. `$…` are put in.
const SCRIPT: &str = "(()=>{\
    const d=document,b=d.createElement('button'),f=d.createElement('textarea'),\
    say=t=>{b.textContent=t},\
    copy=async()=>{f.select();try{await navigator.clipboard.writeText(f.value)}\
    catch(e){if(!d.execCommand('copy'))throw e}say($COPIED)};\
    d.getElementById($BUTTON)?.remove();d.getElementById($FIELD)?.remove();\
    b.id=$BUTTON;f.id=$FIELD;f.rows=6;f.hidden=true;\
    b.style.cssText='position:fixed;top:20px;left:20px;z-index:2147483647;padding:24px;font:bold 20px sans-serif;\
    background:#0a7d32;color:#fff;border:0';\
    f.style.cssText='position:fixed;top:120px;left:20px;width:80%;z-index:2147483647;font:12px monospace';\
    b.onclick=async()=>{try{\
    if(f.value){await copy();return}\
    if(!self.PublicKeyCredential?.parseRequestOptionsFromJSON){say($TOO_OLD);return}\
    say($WORKING);\
    const c=await navigator.credentials.get({publicKey:PublicKeyCredential.parseRequestOptionsFromJSON($OPTIONS)}),\
    j=c.toJSON(),r=j.response;\
    f.value=JSON.stringify({id:j.id,rawId:j.rawId,type:j.type,response:{clientDataJSON:r.clientDataJSON,\
    authenticatorData:r.authenticatorData,signature:r.signature,userHandle:r.userHandle||null}},null,1);\
    f.hidden=false;\
    try{await copy()}catch(e){f.select();say($CLICK_TO_COPY)}\
    }catch(e){say($FAILED+' '+e.name+': '+e.message)}};\
    say($CLICK);d.body.append(b,f)})()";

/// The line for `request`: printable ASCII without a line break.
pub fn script(request: &PasskeyRequest, words: &Words<'_>) -> String {
    let quoted = |text: &str| ascii(&Value::from(text));
    // The options last: whatever they hold is not looked at again.
    [
        ("$COPIED", quoted(words.copied)),
        ("$BUTTON", quoted(BUTTON)),
        ("$FIELD", quoted(FIELD)),
        ("$TOO_OLD", quoted(words.too_old)),
        ("$WORKING", quoted(words.working)),
        ("$CLICK_TO_COPY", quoted(words.click_to_copy)),
        ("$FAILED", quoted(words.failed)),
        ("$CLICK", quoted(words.click)),
        ("$OPTIONS", request.json().to_owned()),
    ]
    .iter()
    .fold(SCRIPT.to_owned(), |script, (name, value)| script.replace(name, value))
}

#[cfg(test)]
mod tests {
    use super::super::request::tests::OPTIONS;
    use super::*;

    const WORDS: Words<'_> = Words {
        click: "klik",
        working: "tunggu…",
        copied: "tersalin",
        click_to_copy: "salin",
        failed: "gagal:",
        too_old: "terlalu lama",
    };

    #[test]
    fn the_line_is_one_line_of_ascii_with_everything_put_in() {
        let request = PasskeyRequest::parse(OPTIONS).unwrap();
        let line = script(&request, &WORDS);
        assert!(line.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{line}");
        assert!(!line.contains('$'), "{line}");
        assert!(line.contains(&format!("parseRequestOptionsFromJSON({})", request.json())), "{line}");
        for part in ["navigator.credentials.get", "createElement('button')", "toJSON()", "tunggu\\u2026"] {
            assert!(line.contains(part), "{part}: {line}");
        }
        // A terminal takes no more than 4,095 characters of one line.
        assert!(line.len() < 3000, "{}", line.len());
    }

    #[test]
    fn what_whatsapp_asks_cannot_leave_its_place() {
        let request =
            PasskeyRequest::parse(r#"{"challenge":"AA","rpId":"$CLICK\"});alert(1)//</script>"}"#).unwrap();
        let line = script(&request, &WORDS);
        assert!(line.contains(r#""rpId":"$CLICK\"});alert(1)//</script>""#), "{line}");
    }
}
