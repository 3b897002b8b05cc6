//! Log events of level info and above. A debug line has no name.

use super::EventDef;

macro_rules! events {
    ($($level:ident $name:literal ($($field:ident),*) => $about:literal;)*) => {
        /// All of them.
        pub static EVENTS: &[&EventDef] = &[$(&EventDef {
            name: $name,
            level: stringify!($level),
            about: $about,
            fields: &[$(stringify!($field)),*],
        }),*];
    };
}

events! {
    INFO "said" (line) => "what a command says of itself while it runs, a plain line where lines are for people";
    INFO "replica_started" (replica, host, roles, workflows) => "a replica works from now on";
    INFO "replica_stopped" (replica, drained) => "a replica has ended";
    ERROR "replica_unfit" (error) => "the schema is not one that this binary may write under: it stops";
    INFO "part_well" (part, reason) => "a part of the replica's health is well again";
    WARN "part_not_well" (part, reason) => "a part of the replica's health is not well";
    INFO "health_told" (address) => "health and metrics are told at this address";
    INFO "no_brokers" () => "no brokers are configured: what is to be sent waits for a replica that has some";
    WARN "way_not_secured" (server, reason, fix) => "what goes to a server is not encrypted on its way, or the server need not show who it is";
    WARN "secret_readable" (variable, file) => "a file that holds a secret may be read by everybody on its machine";
    INFO "api_listens" (address) => "the HTTP API listens";
    ERROR "commands_unplaced" (count) => "commands were neither sent nor stored when the time of the stop was over";
    ERROR "loop_broken" (kind) => "a loop of the replica panicked, which is a defect; it begins again";
    WARN "queue_not_declared" (queue, error) => "what the binary says of a queue could not be set yet";

    WARN "leadership_unreachable" (error) => "nobody can be asked who leads";
    INFO "leadership_won" (term) => "this replica leads";
    WARN "leadership_lost" (term, why) => "this replica does not lead any more";
    INFO "leadership_resigned" (term) => "this replica has given leadership up";
    WARN "resignation_failed" (term, error) => "leadership could not be given up: its lease ends by itself";
    WARN "job_failing" (job, term, error) => "a job of the leader fails; it is tried again, and said again when it works";
    INFO "job_works_again" (job, term) => "a job of the leader works again";
    INFO "swept" (batches, split, runs, fan_outs, stopped, parents, followers, undelivered) => "the leader took over what holders left behind";
    INFO "slot_fired" (schedule, slot, run, term) => "a schedule started a run";
    INFO "slot_passed_over" (schedule, reason, slots, term) => "slots of a schedule were passed over: they start no run";
    ERROR "schedule_broken" (schedule, problem, term) => "a schedule cannot fire until somebody mends it";

    WARN "looking_failed" (kind, queue, error) => "work could not be looked for; it is looked for again";
    WARN "claim_unanswered" (run, kind, error) => "a claim or start was not answered: it may have been granted";
    ERROR "code_not_reached" (run, step, pause_ms, error) => "the code of a run's batches cannot be run here: they are left to others";
    WARN "suspect_waits" (run, batch, error) => "a batch whose holders died waits for its turn alone";
    WARN "lease_lost" (kind, run, batch, token, lane, topic) => "a lease was lost: nothing is written";
    WARN "taken_over" (run, batch, token) => "a batch was taken over before it was finished";
    WARN "finish_delayed" (run, batch, error) => "the end of a batch is not written yet";
    ERROR "batch_given_up" (run, batch, why) => "a batch cannot be finished: its run fails";
    WARN "run_not_failed" (run, error) => "a run could not be failed: the next holder of its batch does it";
    WARN "fan_out_not_completed" (run, step, error) => "a fan-out could not be completed: the sweep does it";
    WARN "hand_back_delayed" (run, batch, error) => "a batch is not handed back yet";
    WARN "stop_not_settled" (run, error) => "a run that was stopped could not be ended: the sweep does it";
    WARN "source_failed" (run, step, batch, pause_ms, error) => "rows of a batch could not be read: it is handed back";
    WARN "ids_not_read" (run, step, tried, why) => "the items of a fan-out could not be read: it is tried again";
    ERROR "run_failed" (run, reason) => "a run failed";
    ERROR "run_set_aside" (run, reason) => "a run is set aside until somebody looks at it";
    WARN "run_dropped" (run, reason) => "the code of a run took too long and is dropped";
    WARN "run_again" (run, why) => "the code of a run is run again in a moment";
    WARN "run_not_let_go" (run, error) => "a run could not be let go of: its lease ends by itself";
    WARN "run_not_acquitted" (run, error) => "the suspicion could not be taken from a run that its holder lives with: tried again in a lease";
    WARN "news_not_read" (run, error) => "what reached a run could not be read; it is read again";
    WARN "step_failed" (run, step, attempts) => "a step failed for good";
    INFO "step_retried" (run, step, attempts, pause_ms) => "a step failed and is tried again";
    WARN "transaction_retried" (run, step, error) => "a transaction was not answered and is tried again";
    WARN "select_retried" (run, step, error) => "a select could not be settled and is settled again";
    WARN "children_not_stopped" (run, error) => "children of a run that is over, or of a branch that lost, could not be stopped: the sweep does it";
    WARN "followers_not_woken" (run, error) => "runs that wait for one that is over could not be woken: the sweep does it";
    WARN "parents_not_woken" (count, error) => "parents could not be woken; it is tried again";
    WARN "store_not_now" (count, why) => "the store cannot take a group of writes now; it is asked again";
    WARN "leases_not_renewed" (batches, runs, error) => "leases could not be renewed; it is tried again";
    WARN "queues_not_read" (error) => "what is set of queues could not be read";
    WARN "beat_failed" (replica, error) => "a heartbeat was not written";
    WARN "leave_failed" (replica, error) => "that this replica left was not written";

    WARN "lease_not_renewed" (kind, lane, topic, error) => "a lease could not be renewed; it is tried again";
    INFO "redelivered" (topic, delivered, refused, retried, dead, handed_back) => "undelivered messages were tried again";
    ERROR "redelivery_broken" (error) => "a page of undelivered messages broke off; its lease ends by itself";
    WARN "rows_taken_over" (topic, rows, what) => "undelivered messages were taken over before they were written down";
    WARN "rows_not_written" (topic, rows, what, error) => "what became of undelivered messages is not written yet";
    INFO "outbox_sent" (lane, topic, delivered, refused, kept, trouble) => "commands of the outbox were sent";
    WARN "outbox_unroutable" (lane, route) => "commands wait in the outbox: no topic is configured for their type";
    WARN "outbox_page_not_written" (lane, error) => "what became of a page of the outbox is not written yet";
    ERROR "lane_broken" (error) => "the sending of a lane broke off; its lease ends by itself";
    WARN "lane_not_released" (lane, error) => "a lane could not be given back yet";
    WARN "lane_taken_over" (lane, replica) => "a lane was taken over from a replica whose lease had ended";

    WARN "direct_stalled" (in_flight) => "the brokers do not answer: direct commands are stored";
    INFO "direct_resumed" () => "the brokers answer again: direct commands are sent";
    ERROR "direct_not_accepted" (count) => "direct commands were turned away: queues or memory are full";
    ERROR "direct_store_failing" (count, why) => "direct commands cannot be stored yet and are in memory only";
    ERROR "direct_not_settled" (count, why) => "stored commands that were acknowledged cannot be settled: they are sent once more";
    ERROR "direct_lost" (message_id, why) => "a direct command can never be stored and is lost";
    ERROR "direct_outcome_without_room" (index) => "an outcome found no room: it counts as unknown";
    ERROR "direct_handler_panicked" (message_id) => "the handler of outcomes panicked";
    ERROR "direct_threads_hang" () => "the threads of direct commands do not end";

    INFO "consumer_stopped" (new, repeated, dead) => "a consumer has ended";
    ERROR "page_not_settled" (topic, error) => "a page of messages is not settled and is tried again";
    INFO "page_settled_again" (topic) => "pages of messages are settled again";
    WARN "records_put_aside" (consumer, topic, partition, offset, code, count, reason) => "messages are put aside";
    INFO "partitions_assigned" (topic, partitions) => "a consumer has these partitions now";
    INFO "partitions_revoked" (topic, partitions) => "a consumer has these partitions no more";
    WARN "rebalance_failed" (topic, error) => "partitions could not be taken or given";
    WARN "records_unreadable" (topic, error) => "messages cannot be read at the moment";
    INFO "records_read_again" (topic) => "messages are read again";
    WARN "consumer_replaced" (topic, reason) => "a consumer is of no more use and is replaced";
    WARN "group_not_left" (waited_ms) => "a consumer did not leave its group in time";
    WARN "brokers_unreachable" (reason) => "no broker can be reached";
    ERROR "producer_failed" (error) => "a producer failed for good and is replaced";
    ERROR "producer_not_made" (error) => "a producer cannot be made; it is tried again";
    INFO "producer_replaced" (number) => "a new producer is in service";
    WARN "producer_ended_here" (error) => "a producer was ended on the calling thread";
    WARN "messages_unanswered" (count) => "messages have no outcome and are settled as unknown";
    ERROR "sink_panicked" (index) => "whoever is told of outcomes panicked";
    WARN "librdkafka_says" (facility, line) => "a line of the client library";

    WARN "request_database_unanswered" (error) => "a request met a database that does not answer";
    WARN "request_database_gave_way" (error) => "the database put a request off that may be made again";
    ERROR "request_database_refused" (error) => "the database refused a request";
    ERROR "request_command_refused" (error) => "a command of the HTTP API cannot be sent";
    WARN "token_not_checked" (error) => "a token could not be checked";
    WARN "connection_not_accepted" (error) => "a connection could not be accepted";
    ERROR "door_broken" (error) => "the door of commands ended early";
    WARN "hints_not_heard" (why) => "hints are not heard: work is found by looking";
    INFO "hints_heard_again" () => "hints are heard again";
    ERROR "stuck_batch_unreadable" (error) => "a stuck batch cannot be read";

    WARN "telemetry_not_taken" (signal, error_class) => "a collector does not take what is sent; said once, until it does";
    INFO "telemetry_taken_again" (signal, failed) => "a collector takes again what is sent";
    WARN "telemetry_left_behind" (signals) => "not all was exported when the time of the stop was over";
    WARN "otlp_refused" (signal, reason) => "a signal cannot be exported as configured and is not";
    WARN "otel_variable_ignored" (variable, reason) => "a variable has a value that cannot be used";

    INFO "sender_started" (topic, group, sends) => "email-sender works from now on";
    INFO "sender_stopped" () => "email-sender has ended";
    INFO "draining" () => "the process was told to stop";
    WARN "waiting_for_postgres" (error) => "Postgres is not there yet";
    ERROR "mail_failed" (message_id, why) => "an e-mail has failed for good";
    WARN "mail_taken_over" (message_id) => "an e-mail was taken over before it was marked";
    WARN "mail_not_marked" (message_id, error) => "what became of an e-mail is not written";
    WARN "mail_server_bars" (reason) => "the mail server takes nothing for a while";
    WARN "mails_not_pruned" (error) => "old e-mails could not be deleted";
    WARN "welcome_invalid" (user, invalid) => "no welcome can be sent to a user";
    ERROR "welcome_lost" (user) => "a welcome was not accepted";
    ERROR "user_not_registered" (error) => "a user could not be registered";
}
