//! The content of an envelope's members, known by their names.

#![forbid(unsafe_code)]

/// The place of a value. It decides how certain it is that the value is an envelope or a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Where {
    /// The batch itself, or a body.
    Whole,
    /// A member of an envelope.
    Member,
    /// An element of an array.
    Element,
    /// Inside an envelope that cannot be anything else, such as the records of a Lambda event.
    Record,
}

/// How the value of an envelope's member holds messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// A list of envelopes.
    Records,
    /// A list of messages, a message, or a message in base64.
    Data,
    /// An envelope.
    Wrapper,
    /// A message or its text.
    Text,
    /// The arguments of a job: a message or its text, or a list of them.
    Args,
    /// Names and values of a Redis stream's entry.
    Fields,
    /// A Redis command.
    Command,
}

impl Content {
    /// The content of a member with this name, and the rank of the member. If several members hold messages,
    /// only the member of the lowest rank counts, whatever the order of the members.
    pub(super) fn of(key: &str) -> Option<(u8, Content)> {
        Some(match key {
            "Records" => (0, Content::Records),
            "records" => (1, Content::Records),
            "Messages" => (2, Content::Records),
            "messages" => (3, Content::Records),
            "Entries" => (4, Content::Records),
            "receivedMessages" => (5, Content::Records),
            "data" => (6, Content::Data),
            "Data" => (7, Content::Data),
            "Message" => (8, Content::Text),
            "Sns" => (9, Content::Wrapper),
            "kinesis" => (10, Content::Wrapper),
            "message" => (11, Content::Wrapper),
            "body" => (12, Content::Text),
            "Body" => (13, Content::Text),
            "MessageBody" => (14, Content::Text),
            "payload" => (15, Content::Text),
            "value" => (16, Content::Text),
            "fields" => (17, Content::Fields),
            "command" => (18, Content::Command),
            "detail" => (19, Content::Text),
            "args" => (20, Content::Args),
            "kwargs" => (21, Content::Args),
            _ => return None,
        })
    }
}
