//! What an error of the client library means for one message: a pure, total function.

use rdkafka::types::RDKafkaErrorCode;

use crate::delivery::TopicTrouble;

/// What to do with a message whose report or offer carried an error code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is in the log.
    Delivered,
    /// The whole request was turned down, perhaps because of a neighbour: only what fails alone is refused.
    TryAlone(&'static str),
    /// It can never go as it is.
    Refused(&'static str),
    /// It may or may not be in the log.
    Unknown(&'static str),
    /// Nothing is wrong with the message but its topic cannot be used.
    Topic(TopicTrouble),
    /// The client's own queue is full.
    Full,
}

/// The meaning of a code. Whatever is not known to be harmless is unknown, never delivered or refused.
pub(super) fn verdict(code: RDKafkaErrorCode) -> Verdict {
    use RDKafkaErrorCode as E;
    match code {
        E::NoError => Verdict::Delivered,
        E::MessageSizeTooLarge | E::MessageBatchTooLarge | E::InvalidMessageSize => Verdict::TryAlone("too_large"),
        E::InvalidRecord | E::InvalidDifferentRecord => Verdict::TryAlone("invalid_record"),
        E::InvalidTimestamp => Verdict::TryAlone("invalid_timestamp"),
        E::BadMessage | E::InvalidArgument => Verdict::Refused("invalid_message"),
        E::UnknownTopicOrPartition | E::UnknownTopic | E::UnknownPartition | E::InvalidTopic | E::UnknownTopicId => {
            Verdict::Topic(TopicTrouble::Missing)
        }
        // The second is about writing with idempotence, which nothing here does without.
        E::TopicAuthorizationFailed | E::ClusterAuthorizationFailed => Verdict::Topic(TopicTrouble::NotAuthorised),
        E::QueueFull => Verdict::Full,
        E::Fatal | E::Fenced | E::ProducerFenced => Verdict::Unknown("producer_fatal"),
        E::PurgeQueue | E::PurgeInflight => Verdict::Unknown("purged"),
        E::MessageTimedOut | E::OperationTimedOut | E::RequestTimedOut | E::TimedOutQueue => {
            Verdict::Unknown("timed_out")
        }
        E::BrokerTransportFailure | E::NetworkException | E::AllBrokersDown | E::BrokerDestroy | E::DestroyBroker => {
            Verdict::Unknown("connection_lost")
        }
        E::Authentication | E::SaslAuthenticationFailed | E::SSL => Verdict::Unknown("not_authenticated"),
        E::NotEnoughReplicas | E::NotEnoughReplicasAfterAppend => Verdict::Unknown("not_enough_replicas"),
        _ => Verdict::Unknown("broker_error"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rdkafka::types::RDKafkaRespErr;

    /// Every code the library has, without the markers at the ends of its ranges.
    fn all_codes() -> Vec<RDKafkaErrorCode> {
        let markers = [-200, -100];
        let known = (-200..=500)
            .filter(|n| !markers.contains(n))
            .filter_map(|n| RDKafkaRespErr::try_from(n).ok());
        let codes: Vec<_> = known.map(RDKafkaErrorCode::from).collect();
        assert!(codes.len() > 150, "only {} codes found", codes.len());
        codes
    }

    #[test]
    fn only_no_error_is_delivered() {
        for code in all_codes() {
            assert_eq!(
                verdict(code) == Verdict::Delivered,
                code == RDKafkaErrorCode::NoError,
                "{code:?}"
            );
        }
    }

    #[test]
    fn nothing_is_refused_that_the_broker_may_have_kept() {
        // A code is refused only when it speaks of the message; everything else may be retried.
        let of_the_message = [-199, -186, 4, 10, 18, 32, 87, -138];
        for code in all_codes() {
            let refusable = matches!(verdict(code), Verdict::Refused(_) | Verdict::TryAlone(_));
            assert_eq!(refusable, of_the_message.contains(&(code as i32)), "{code:?}");
        }
    }

    #[test]
    fn codes_of_outcomes_are_a_closed_set_of_labels() {
        let mut labels = std::collections::BTreeSet::new();
        for code in all_codes() {
            if let Verdict::TryAlone(label) | Verdict::Refused(label) | Verdict::Unknown(label) = verdict(code) {
                assert!(label.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{label}");
                labels.insert(label);
            }
        }
        assert_eq!(labels.len(), 11, "{labels:?}");
    }

    #[test]
    fn troubles_of_topic_and_producer_are_told_apart() {
        use RDKafkaErrorCode as E;
        assert_eq!(verdict(E::UnknownTopic), Verdict::Topic(TopicTrouble::Missing));
        assert_eq!(
            verdict(E::UnknownTopicOrPartition),
            Verdict::Topic(TopicTrouble::Missing)
        );
        assert_eq!(
            verdict(E::TopicAuthorizationFailed),
            Verdict::Topic(TopicTrouble::NotAuthorised)
        );
        assert_eq!(verdict(E::Fatal), Verdict::Unknown("producer_fatal"));
        assert_eq!(
            verdict(E::NotEnoughReplicasAfterAppend),
            Verdict::Unknown("not_enough_replicas")
        );
        // Retriable in the library: it speaks of a damaged copy in transit.
        assert_eq!(verdict(E::InvalidMessage), Verdict::Unknown("broker_error"));
    }
}
