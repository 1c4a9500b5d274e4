//! One suite for every back end: what a program may rely on, whichever one it got.
//!
//! Each function of the rooms below is a promise; the list at the end makes a test of it for io_uring, posix and the simulator.
//! The rules for ring drivers, each from a bug that somebody shipped, are among them or, where they need the driver's inside,
//! in `src/uring/tests.rs`. A back end that can't run here says why and the test counts as skipped, in words.
//!
//! A tokio-uring back end, if it is written, joins the list at the end, with its expected failures asserted to fail.

#[path = "conformance/disk.rs"]
mod disk;
#[path = "conformance/memory.rs"]
mod memory;
#[path = "conformance/rules.rs"]
mod rules;
#[path = "conformance/sockets.rs"]
mod sockets;
#[path = "conformance/stage.rs"]
mod stage;
#[path = "conformance/tasks.rs"]
mod tasks;

macro_rules! on_every_back_end {
    ($($room:ident: $($promise:ident),+;)+) => {
        on_every_back_end!(@ uring Uring; $($room: $($promise),+;)+);
        on_every_back_end!(@ posix Posix; $($room: $($promise),+;)+);
        on_every_back_end!(@ simulator Simulator; $($room: $($promise),+;)+);
    };
    (@ $name:ident $kind:ident; $($room:ident: $($promise:ident),+;)+) => {
        mod $name {
            $($(
                #[test]
                fn $promise() {
                    if let Some(stage) = crate::stage::Stage::new(crate::stage::Kind::$kind, stringify!($promise)) {
                        crate::$room::$promise(stage);
                    }
                }
            )+)+
        }
    };
}

on_every_back_end! {
    rules:
        buffer_of_a_dropped_read_stays_with_the_kernel,
        buffer_of_a_cancelled_receive_stays_with_the_kernel,
        dropped_receive_loses_no_bytes,
        dropped_accept_loses_no_connection,
        dropped_write_runs_to_its_end,
        short_disk_transfers_are_resumed,
        short_sends_and_receives_are_resumed,
        second_send_in_flight_on_one_socket_is_refused,
        dropped_send_does_not_leave_half_a_message,
        ring_is_entered_while_another_task_is_always_ready,
        timer_fires_while_another_task_is_always_ready,
        runtime_drains_its_writes_before_it_goes,
        runtime_ends_although_receives_and_accepts_wait,
        failed_sync_is_sticky,
        more_operations_than_the_ring_holds_all_complete;
    disk:
        written_bytes_are_read_back_from_every_kind_of_piece,
        durable_write_completes_and_is_read_back,
        read_past_the_end_is_unexpected_eof,
        file_grows_by_allocation_and_never_shrinks,
        missing_and_existing_files_are_told_apart,
        lock_held_by_another_handle_is_would_block,
        lock_outlives_the_handle_until_its_operations_end,
        empty_write_and_empty_read_succeed;
    memory:
        shared_memory_outlives_its_runtime_and_another_length_starts_anew,
        absent_shared_memory_is_none_and_removal_of_it_is_fine;
    sockets:
        bytes_arrive_in_order_and_close_is_seen,
        stale_socket_is_replaced_and_a_live_one_refused,
        connect_to_nobody_is_refused,
        shutdown_ends_a_receive_in_flight,
        last_handle_dropped_closes_the_connection,
        send_to_a_closed_peer_is_an_error_not_a_signal,
        tcp_carries_the_same;
    tasks:
        tasks_run_in_the_order_they_were_spawned,
        dropped_task_is_cancelled_and_a_detached_one_runs_on,
        yield_lets_completions_in,
        notify_between_creation_and_first_poll_is_not_lost,
        timers_fire_in_order_and_a_dropped_one_does_not,
        timeout_gives_up_and_lets_go,
        clock_and_randomness_are_there,
        wake_from_another_thread_reaches_the_task,
        waiting_costs_no_processor_time,
        termination_is_told_to_all_who_wait;
}

/// `Auto` must find a back end on every host, and say why if it is not a ring.
#[test]
fn auto_runs_everywhere_and_states_why_it_has_no_ring() {
    let runtime = treering_io::Runtime::new(treering_io::BackendChoice::Auto).expect("posix runs everywhere");
    assert_eq!(runtime.io().backend() == "posix", runtime.fallback_reason().is_some());
}
