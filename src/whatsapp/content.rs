//! What a WhatsApp message says: its text, unwrapped from whatever it came in.

use waproto::whatsapp as wa;

use crate::desk::Content;

/// Wrappers inside wrappers that are opened (`registration/RULES.md` 8.5); what is deeper counts as no content.
const MAX_WRAPPERS: usize = 6;

/// The content that the desk understands.
///
/// Text is, in this order: the chosen row of a list, the chosen button, plain text, extended text
/// or the caption of a picture, video or document. An edited message says its new text.
pub fn of(message: &wa::Message) -> Content {
    let Some(message) = unwrap(message) else { return Content::Other };
    if let Some(text) = text(message) {
        return Content::Text(text.into());
    }
    if has_media(message) { Content::Media } else { Content::Other }
}

/// Opens ephemeral, view-once, document-with-caption, device-sent and edited wrappers.
fn unwrap(message: &wa::Message) -> Option<&wa::Message> {
    let mut message = message;
    for _ in 0..=MAX_WRAPPERS {
        let inner = [
            &message.ephemeral_message,
            &message.view_once_message,
            &message.view_once_message_v2,
            &message.view_once_message_v2_extension,
            &message.document_with_caption_message,
            &message.edited_message,
        ]
        .into_iter()
        .find_map(|wrapper| wrapper.as_option()?.message.as_option())
        .or_else(|| message.device_sent_message.as_option()?.message.as_option())
        .or_else(|| message.protocol_message.as_option()?.edited_message.as_option());
        match inner {
            Some(inner) => message = inner,
            None => return Some(message),
        }
    }
    None
}

fn text(message: &wa::Message) -> Option<String> {
    let list = || {
        message.list_response_message.as_option()?.single_select_reply.as_option()?.selected_row_id.as_deref()
    };
    let button = || message.buttons_response_message.as_option()?.selected_button_id.as_deref();
    let template = || message.template_button_reply_message.as_option()?.selected_id.as_deref();
    let extended = || message.extended_text_message.as_option()?.text.as_deref();
    let image = || message.image_message.as_option()?.caption.as_deref();
    let video = || message.video_message.as_option()?.caption.as_deref();
    let document = || message.document_message.as_option()?.caption.as_deref();
    let candidates = [
        list(),
        button(),
        template(),
        message.conversation.as_deref(),
        extended(),
        image(),
        video(),
        document(),
    ];
    candidates.into_iter().flatten().find(|text| !text.trim().is_empty()).map(str::to_owned)
}

fn has_media(message: &wa::Message) -> bool {
    message.image_message.is_set()
        || message.video_message.is_set()
        || message.document_message.is_set()
        || message.audio_message.is_set()
        || message.sticker_message.is_set()
}
