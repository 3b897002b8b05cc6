//! What the parts of a replica are told, made of its configuration.

use uuid::Uuid;

use crate::brokers::has_brokers;
use crate::cli::Roles;
use crate::config::Config;
use crate::delivery::{OutboxSettings, RedeliverySettings};
use crate::execution::{ExecutionSettings, LARGE_RECORDS};

pub(crate) fn execution_settings(config: &Config, roles: Roles, replica: Uuid) -> ExecutionSettings {
    ExecutionSettings {
        replica,
        roles: roles.names(),
        batches: config.worker.batches as usize,
        batch_size: config.worker.batch_size as usize,
        plan_ahead: config.worker.plan_ahead as usize,
        runs: config.workflows.in_flight as usize,
        max_result: config.workflows.max_result as usize,
        large_records: LARGE_RECORDS,
        cancel_grace: config.workflows.cancel_grace,
        poll: config.worker.poll,
        lease: config.lease.duration,
        renew: config.lease.renew,
        suspect_after: u16::try_from(config.lease.max_deaths.saturating_sub(1).max(1)).unwrap_or(u16::MAX),
        window: if has_brokers(config) {
            config.kafka.window as usize
        } else {
            0
        },
        topics: config.topics.clone(),
        key_hash: crate::direct::key_hash(config),
        drain: config.drain.deadline,
    }
}

pub(crate) fn redelivery_settings(config: &Config) -> RedeliverySettings {
    RedeliverySettings {
        page: config.redelivery.page,
        max_attempts: config.redelivery.max_attempts,
        first_delay: config.redelivery.first_delay,
        max_delay: config.redelivery.max_delay,
        lease: config.lease.duration,
        poll: config.worker.poll,
        drain: config.drain.deadline / 2,
        ..RedeliverySettings::default()
    }
}

pub(crate) fn outbox_settings(config: &Config) -> OutboxSettings {
    OutboxSettings {
        page: config.outbox.page,
        lanes: config.outbox.lanes as usize,
        poll: config.outbox.poll,
        lease: config.lease.duration,
        drain: config.drain.deadline / 2,
        ..OutboxSettings::default()
    }
}
