use proptest::prelude::*;

use super::*;

fn recorder(open: u64, close: u64) -> Recorder {
    let plan =
        WindowPlan { warm: Nanoseconds(0), open: Nanoseconds(open), close: Nanoseconds(close), seed: 0, trace: false };
    Recorder::new(&plan, WorkUnit::Token)
}

fn answer(recorder: &mut Recorder, due: u64, tokens: &[u64]) {
    let mut request = Request::with_room(4);
    request.begin(Nanoseconds(due), Nanoseconds(0));
    for (index, token) in tokens.iter().enumerate() {
        recorder.token(&mut request, Nanoseconds(*token), index + 1 == tokens.len());
    }
    recorder.complete(&mut request, None);
}

#[test]
fn what_ended_inside_counts_whenever_it_began() {
    let mut recorder = recorder(1_000, 2_000);
    answer(&mut recorder, 100, &[500, 1_000]);
    answer(&mut recorder, 1_200, &[1_300, 1_999]);
    answer(&mut recorder, 1_200, &[1_400, 2_000]);
    answer(&mut recorder, 100, &[500, 999]);
    let window = recorder.finish("a");
    assert_eq!(window.work.completed, 2);
    assert_eq!(window.histograms[&Metric::E2e].counts, [(799, 1), (900, 1)]);
    assert_eq!(window.histograms[&Metric::Ttft].counts, [(100, 1), (400, 1)]);
    assert_eq!(window.histograms[&Metric::Itl].counts, [(500, 1), (699, 1)], "gaps of the two tokens that came inside");
}

#[test]
fn a_request_of_one_token_has_no_time_per_token() {
    let mut recorder = recorder(0, 2_000);
    answer(&mut recorder, 100, &[500]);
    let window = recorder.finish("a");
    assert_eq!(window.histograms.keys().copied().collect::<Vec<_>>(), [Metric::Ttft, Metric::E2e, Metric::Lag]);
    assert_eq!((window.requests.tpot, window.requests.itl), (vec![0], vec![0]));
}

#[test]
fn the_servers_own_count_divides_the_time_per_token() {
    let mut recorder = recorder(0, 20_000);
    let mut request = Request::with_room(4);
    request.begin(Nanoseconds(0), Nanoseconds(0));
    recorder.token(&mut request, Nanoseconds(1_000), false);
    recorder.token(&mut request, Nanoseconds(9_000), true);
    recorder.complete(&mut request, Some(9));
    assert_eq!(recorder.finish("a").histograms[&Metric::Tpot].counts, [(1_000, 1)]);
}

#[test]
fn a_requests_slow_gap_is_its_largest_below_a_hundred_gaps_and_the_99th_percentile_above() {
    let slow_gap = |gaps: u64| {
        let mut request = Request::with_room(0);
        request.gaps.extend((1..=gaps).rev());
        request.slow_gap()
    };
    assert_eq!([0, 1, 50, 99, 100, 200, 1_000].map(slow_gap), [0, 1, 50, 99, 99, 198, 990]);
}

#[test]
fn failures_keep_eight_messages_and_count_all() {
    let mut recorder = recorder(1_000, 2_000);
    for number in 0..12 {
        recorder.fail(Nanoseconds(1_500), &format!("status {}", 500 + number));
        recorder.fail(Nanoseconds(1_500), "status 500");
    }
    recorder.fail(Nanoseconds(999), "before");
    recorder.fail(Nanoseconds(2_000), "after");
    let work = recorder.finish("a").work;
    assert_eq!((work.failed, work.errors.len(), work.errors["status 500"]), (24, 8, 13));
}

#[test]
fn an_age_is_counted_only_of_what_was_due_before_the_close() {
    let mut recorder = recorder(1_000, 2_000);
    for due in [500, 1_999, 2_000, 2_001] {
        recorder.leave(Nanoseconds(due));
    }
    assert_eq!(recorder.finish("a").unfinished.counts, [(1, 1), (1_500, 1)]);
}

proptest! {
    #[test]
    fn adjacent_windows_share_out_all_work(
        steps in prop::collection::vec(0_u64..2_000, 1..50),
        edge in 0_u64..50_000,
    ) {
        let total: u64 = steps.iter().sum();
        let (mut before, mut after) = (recorder(0, edge), recorder(edge, total.max(edge) + 1));
        let mut begin = 0;
        for step in &steps {
            before.work(Nanoseconds(begin), Nanoseconds(begin + step), 3.0);
            after.work(Nanoseconds(begin), Nanoseconds(begin + step), 3.0);
            begin += step;
        }
        let shared = before.finish("a").work.units + after.finish("a").work.units;
        prop_assert!((shared - 3.0 * steps.len() as f64).abs() < 1e-6, "{shared} of {} steps", steps.len());
    }
}
