//! The kinds of storage requests, by which tests and measurements count.

/// The operation that a request asks for.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// An entity group transaction: `POST /account/$batch`.
    Batch,
    /// One entity by its keys.
    GetEntity,
    /// A query for entities.
    Query,
    /// `POST /account/Tables`
    CreateTable,
    /// Insert of one entity.
    Insert,
    /// Merge or update of one entity.
    Change,
    /// Delete of one entity.
    Delete,
    /// A message is put on a queue.
    PutMessage,
    /// Messages are received or peeked.
    GetMessages,
    /// The length of a queue.
    GetQueue,
    /// Create of a queue.
    CreateQueue,
    /// Anything else.
    Other,
}

impl Kind {
    /// Classifies a request by its method and by its target, which begins with the account: `/account/rest?query`.
    #[must_use]
    pub fn of(method: &str, target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let rest = path.splitn(3, '/').nth(2).unwrap_or_default();
        let key = rest.contains("RowKey=");
        match method {
            "POST" if rest.starts_with("$batch") => Self::Batch,
            "POST" if rest == "Tables" => Self::CreateTable,
            "POST" if rest.ends_with("/messages") => Self::PutMessage,
            "GET" if rest.ends_with("/messages") => Self::GetMessages,
            "GET" if !rest.contains('/') && query.contains("comp=metadata") => Self::GetQueue,
            "PUT" if !rest.contains('/') && !key && !query.contains("comp=") => Self::CreateQueue,
            "POST" if !rest.contains('/') => Self::Insert,
            "GET" if key => Self::GetEntity,
            "GET" if !rest.contains('/') && !query.contains("comp=") => Self::Query,
            "MERGE" | "PATCH" | "PUT" if key => Self::Change,
            "DELETE" if key => Self::Delete,
            _ => Self::Other,
        }
    }

    /// Returns the name under which requests of this kind are reported.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::GetEntity => "get",
            Self::Query => "query",
            Self::CreateTable => "create table",
            Self::Insert => "insert",
            Self::Change => "change",
            Self::Delete => "delete",
            Self::PutMessage => "put",
            Self::GetMessages => "get messages",
            Self::GetQueue => "get queue",
            Self::CreateQueue => "create queue",
            Self::Other => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart() {
        let cases = [
            ("POST", "/a/$batch", Kind::Batch),
            ("POST", "/a/Tables", Kind::CreateTable),
            ("POST", "/a/t", Kind::Insert),
            ("GET", "/a/t(PartitionKey='p',RowKey='r')", Kind::GetEntity),
            ("GET", "/a/t()?$filter=x", Kind::Query),
            ("GET", "/a/t?$filter=x", Kind::Query),
            ("MERGE", "/a/t(PartitionKey='p',RowKey='r')", Kind::Change),
            ("DELETE", "/a/t(PartitionKey='p',RowKey='r')", Kind::Delete),
            ("POST", "/a/q/messages?visibilitytimeout=0", Kind::PutMessage),
            ("GET", "/a/q/messages?peekonly=true", Kind::GetMessages),
            ("GET", "/a/q?comp=metadata", Kind::GetQueue),
            ("PUT", "/a/q", Kind::CreateQueue),
            ("PUT", "/a/q?comp=metadata", Kind::Other),
            ("DELETE", "/a/q/messages/1?popreceipt=x", Kind::Other),
        ];
        for (method, target, expected) in cases {
            assert_eq!(Kind::of(method, target), expected, "{method} {target}");
        }
    }
}
