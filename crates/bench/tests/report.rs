//! Reports of synthetic runs: the terminal table, Markdown, JSON, the difference of two runs, the page and the animation.

#[path = "support/synthetic.rs"]
mod synthetic;

use cotenant_bench::report::{Report, TableStyle, diff, markdown};
use cotenant_bench::summary::Summary;
use cotenant_model::run::{Metric, Run, Tuning, TuningPoint};
use cotenant_model::workload::{Class, Engine};
use cotenant_model::{Arm, Kernel, Nanoseconds};
use synthetic::{Outcome, chat_beside_products, fare, two_decoders};

const STYLE: TableStyle = TableStyle { width: 100, color: false };
const HOSTILE: &str = "\u{1b}[31mx\u{202e}\u{7}<script>alert(1)</script>|`**\n# h";

fn table(run: &Run, style: TableStyle) -> String {
    Report::new(run, &Summary::of(run)).table(style)
}

/// A run in which everything that can hold text holds what wants out of it.
fn hostile() -> Run {
    let tenants = vec![synthetic::decoder(HOSTILE, Class::Standard), synthetic::products("b")];
    let ran = Outcome::Ran(vec![fare(1000.0, 0.1), fare(2000.0, 0.1)], 300.0);
    let arms = vec![
        ("solo", ran.clone()),
        ("mps", ran),
        ("mps:50", Outcome::Failed(0, HOSTILE)),
        ("mps-memory", Outcome::Refused(HOSTILE)),
    ];
    let mut run = synthetic::run("hostile", tenants, arms);
    run.host.gpu.name = HOSTILE.to_owned();
    run.notes.push(HOSTILE.to_owned());
    run.description = Some(HOSTILE.to_owned());
    run
}

#[test]
fn the_table_marks_the_best_arm_and_keeps_the_losers() {
    insta::assert_snapshot!(table(&two_decoders(), STYLE), @r#"
    two-decoders on NVIDIA H200
    A synthetic record for tests of reports.
    driver 580.159.04 (CUDA 13.0) · 140 GiB, 132 SMs · cotenant 0.1.0 (0123abc)
    3 × 5 s after 1 s of warm-up, arms interleaved · seed 7 · 2026-11-23T18:00:00Z
    $7.91 an hour: a price made up for this test

    arm              progress of    tokens/s    aggregate   × best      p50      p99   J per   $ per
                     each tenant      in all       × solo     solo   slower   slower      1k      1M
    ────────────────────────────────────────────────────────────────────────────────────────────────
      solo                     –           –            –        –        –        –     456   $2.52
      time-slicing   0.46 + 0.46      806 ±7   0.92 ±0.01     0.92    2.16×    2.38×     480   $2.73
    ★ mps best       0.69 + 0.69   1,198 ±12   1.37 ±0.01     1.37    1.45×    1.54×     417   $1.84
      mps:50         0.64 + 0.64   1,115 ±11   1.28 ±0.01     1.28    1.57×    1.62×     436   $1.97
    ✗ mig:1g.18gb   refused: this GPU has no MIG instances
    aggregate: sum of each tenant's throughput ÷ its throughput alone; ±: 95 % confidence interval of
    the mean; slower: latency of the worst tenant ÷ its latency alone. Left out for want of width: Jain,
    W. ✗: not compared, for the reason given.

    mps does the most: 1.37 ±0.01 times the work of one tenant alone, 1.49× what time-slicing does, for
    $1.84 per million tokens (time-slicing: $2.73).
    The price of it: ITL p99 of right is 1.54× what it is alone (1.83 ms).
    MPS loses to time-slicing in no figure whose confidence intervals are apart.
    mig:1g.18gb did not run: this GPU has no MIG instances
    note: telemetry paused for 0.4 s in repeat 2 of mps

    left and right · tokens · latency: ITL · alike within 5 %, of each arm the slowest
      arm            units/s   progress       p50   slower       p99   slower       max   requests
    ──────────────────────────────────────────────────────────────────────────────────────────────
      solo            872 ±9          –   1.15 ms        –   1.19 ms        –   1.21 ms        101
      time-slicing    403 ±4       0.46   2.48 ms    2.16×   2.83 ms    2.38×   2.96 ms         45
      mps             599 ±6       0.69   1.67 ms    1.45×   1.83 ms    1.54×   1.88 ms         69
      mps:50          557 ±5       0.64    1.8 ms    1.57×   1.93 ms    1.62×   1.98 ms         63
    Left out for want of width: RSS, startup.
    "#);
}

#[test]
fn the_table_shows_where_mps_loses_and_what_failed() {
    let text = table(&chat_beside_products(), STYLE);
    let head: Vec<&str> = text.lines().take_while(|line| !line.starts_with("chat · ")).collect();
    insta::assert_snapshot!(head.join("\n"), @r#"
    chat-beside-products on NVIDIA H200
    A synthetic record for tests of reports.
    driver 580.159.04 (CUDA 13.0) · 140 GiB, 132 SMs · cotenant 0.1.0 (0123abc)
    3 × 5 s after 1 s of warm-up, arms interleaved · seed 7 · 2026-11-23T18:00:00Z
    $7.91 an hour: a price made up for this test

    arm                   progress of    aggregate      p50      p99      SLO   Jain     W
                          each tenant       × solo   slower   slower
    ──────────────────────────────────────────────────────────────────────────────────────
      solo                          –            –        –        –     kept      –   420
      time-slicing        0.43 + 0.67   1.10 ±0.01    2.41×    3.58×   broken   0.96   560
      mps                 0.05 + 0.98   1.03 ±0.01    20.8×    39.8×   broken   0.56   655
    ★ mps:100/25 best     0.83 + 0.31   1.14 ±0.01    1.20×    1.32×     kept   0.83   470
    ✗ mps:100/50        0.56 + failed
        products failed: CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered
    aggregate: sum of each tenant's throughput ÷ its throughput alone; ±: 95 % confidence interval of
    the mean; slower: latency of the worst protected tenant ÷ its latency alone. ✗: not compared, for
    the reason given.

    Only mps:100/25 kept every SLO: 1.14 ±0.01 times the work of one tenant alone. ITL p99 of chat came
    to 2.39× (under time-slicing) and 26.5× (under mps) its limit.
    The price of it: ITL p99 of chat is 1.32× what it is alone (1.64 ms).
    mps loses to time-slicing: aggregate 1.03 ±0.01 against 1.10 ±0.01; chat does 32.1 tokens/s against
    256; ITL p50 of chat is 24.1 ms against 2.8 ms.
    mps:100/25 loses to time-slicing: products does 181 products/s against 388; E2E p50 of products is
    88.5 ms against 41.3 ms.
    mps:100/50 loses to time-slicing: products failed, which all ran under time-slicing.
    products failed in mps:100/50: CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered
    chat went on in mps:100/50, at 0.56 of its throughput alone.
    note: telemetry paused for 0.4 s in repeat 2 of mps
    "#);
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    for run in [two_decoders(), chat_beside_products(), hostile()] {
        for width in [80, 100, 140] {
            let text = Report::new(&run, &Summary::of(&run)).recorded().table(TableStyle { width, color: false });
            let widest = text.lines().map(|line| line.chars().count()).max();
            assert!(widest <= Some(width), "{width}: {text}");
        }
    }
}

#[test]
fn every_line_of_what_was_not_measured_here_says_so() {
    let mut run = two_decoders();
    let recorded = Report::new(&run, &Summary::of(&run)).recorded().table(STYLE);
    assert!(recorded.lines().all(|line| line.starts_with("recorded │")), "{recorded}");
    run.host.gpu.name = "Simulated H200".to_owned();
    let simulated = table(&run, STYLE);
    assert!(simulated.lines().all(|line| line.starts_with("simulated │")), "{simulated}");
    assert!(Report::new(&run, &Summary::of(&run)).html("run.json").contains("<strong>simulated</strong>"));
}

#[test]
fn colour_is_written_only_when_told() {
    assert!(!table(&two_decoders(), STYLE).contains('\u{1b}'));
    assert!(table(&two_decoders(), TableStyle { color: true, ..STYLE }).contains("\u{1b}[1m★ mps best"));
}

#[test]
fn text_from_a_file_cannot_break_out() {
    let run = hostile();
    let summary = Summary::of(&run);
    let report = Report::new(&run, &summary);
    let page = report.html("run.json");
    let text = [
        report.table(STYLE),
        markdown(&[("a/run.json", report)], "cargo xtask results"),
        diff(&report, &report, STYLE),
    ];
    for text in text.iter().chain([&page]) {
        assert!(!text.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{text}");
    }
    assert!(!page.contains("<script>alert"));
    assert!(!text[1].contains("<script>"));
    assert!(!text[1].contains("\n# h"));
}

#[test]
fn the_page_holds_everything_it_shows() {
    let run = chat_beside_products();
    let summary = Summary::of(&run);
    let page = Report::new(&run, &summary).recorded().html("run.json");
    for outside in ["http://", "https://", "src=", "@import", "url(", "<link"] {
        assert!(!page.contains(outside), "{outside}");
    }
    for part in [
        "default-src 'none'",
        "id=\"latency\"",
        "id=\"slowdown\"",
        "id=\"timeline\"",
        "id=\"telemetry\"",
        "<strong>recorded</strong>",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert!(page.contains("CUDA_ERROR_ILLEGAL_ADDRESS"));
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
}

#[test]
fn the_results_page_says_what_wins_and_where_mps_loses() {
    let (one, two) = (two_decoders(), chat_beside_products());
    let (first, second) = (Summary::of(&one), Summary::of(&two));
    let runs = [("h200/two/run.json", Report::new(&one, &first)), ("h200/chat/run.json", Report::new(&two, &second))];
    insta::assert_snapshot!(markdown(&runs, "cargo xtask results"), @r#"
    # Results

    <!-- Generated by `cargo xtask results`; do not edit. -->

    Every figure here is derived from the `run.json` beside it. Aggregate: sum over tenants of throughput ÷ throughput alone; ±: 95 % confidence interval of the mean over the repeats; slower: latency ÷ latency alone.

    | workload | GPU | best arm | aggregate | p99 of the watched tenant | MPS ÷ time slicing |
    |---|---|---|---:|---:|---:|
    | [two-decoders](#two-decoders-on-nvidia-h200) | NVIDIA H200 | mps | 1.37 ±0.01 | right: 1.83 ms (1.54×) | 1.49× |
    | [chat-beside-products](#chat-beside-products-on-nvidia-h200) | NVIDIA H200 | mps:100/25 | 1.14 ±0.01 | chat: 1.64 ms (1.32×) | 0.94× |

    ## NVIDIA H200

    ### two-decoders on NVIDIA H200

    A synthetic record for tests of reports.

    **mps does the most: 1.37 ±0.01 times the work of one tenant alone, 1.49× what time-slicing does, for $1.84 per million tokens (time-slicing: $2.73).**
    The price of it: ITL p99 of right is 1.54× what it is alone (1.83 ms).
    MPS loses to time-slicing in no figure whose confidence intervals are apart.
    mig:1g.18gb did not run: this GPU has no MIG instances

    | arm | each tenant | aggregate | p50 slower | p99 slower | SLO | Jain | W | J per 1k | $ per 1M |
    |---|---|---:|---:|---:|---|---:|---:|---:|---:|
    | solo | left: 872 ±9 tokens/s, right: 872 ±8 tokens/s | – | – | – | – | – | 398 | 456 | $2.52 |
    | time-slicing | left: 403 ±4 tokens/s (0.46), right: 403 ±4 tokens/s (0.46) | 0.92 ±0.01 | 2.16× | 2.38× | – | 1.00 | 387 | 480 | $2.73 |
    | **mps** ★ best | left: 599 ±6 tokens/s (0.69), right: 599 ±6 tokens/s (0.69) | 1.37 ±0.01 | 1.45× | 1.54× | – | 1.00 | 500 | 417 | $1.84 |
    | mps:50 | left: 557 ±5 tokens/s (0.64), right: 557 ±6 tokens/s (0.64) | 1.28 ±0.01 | 1.57× | 1.62× | – | 1.00 | 486 | 436 | $1.97 |
    | mig:1g.18gb | ✗ mig:1g.18gb did not run: this GPU has no MIG instances | | | | | | | | |

    Note: telemetry paused for 0.4 s in repeat 2 of mps

    driver 580.159.04 · 3 × 5 s after 1 s of warm-up, arms interleaved · seed 7 · 2026-11-23T18:00:00Z · $7.91 an hour: a price made up for this test · [run.json](<h200/two/run.json>) · [report.html](<h200/two/report.html>)

    ### chat-beside-products on NVIDIA H200

    A synthetic record for tests of reports.

    **Only mps:100/25 kept every SLO: 1.14 ±0.01 times the work of one tenant alone. ITL p99 of chat came to 2.39× (under time-slicing) and 26.5× (under mps) its limit.**
    The price of it: ITL p99 of chat is 1.32× what it is alone (1.64 ms).
    mps loses to time-slicing: aggregate 1.03 ±0.01 against 1.10 ±0.01; chat does 32.1 tokens/s against 256; ITL p50 of chat is 24.1 ms against 2.8 ms.
    mps:100/25 loses to time-slicing: products does 181 products/s against 388; E2E p50 of products is 88.5 ms against 41.3 ms.
    mps:100/50 loses to time-slicing: products failed, which all ran under time-slicing.
    products failed in mps:100/50: CUDA\_ERROR\_ILLEGAL\_ADDRESS: an illegal memory access was encountered
    chat went on in mps:100/50, at 0.56 of its throughput alone.

    | arm | each tenant | aggregate | p50 slower | p99 slower | SLO | Jain | W | J per 1k | $ per 1M |
    |---|---|---:|---:|---:|---|---:|---:|---:|---:|
    | solo | chat: 589 ±0 tokens/s, products: 583 ±6 products/s | – | – | – | kept | – | 420 | – | – |
    | time-slicing | chat: 256 ±0 tokens/s (0.43), products: 388 ±4 products/s (0.67) | 1.10 ±0.01 | 2.41× | 3.58× | broken | 0.96 | 560 | – | – |
    | mps | chat: 32.1 ±1.0 tokens/s (0.05), products: 571 ±5 products/s (0.98) | 1.03 ±0.01 | 20.8× | 39.8× | broken | 0.56 | 655 | – | – |
    | **mps:100/25** ★ best | chat: 487 ±2 tokens/s (0.83), products: 181 ±2 products/s (0.31) | 1.14 ±0.01 | 1.20× | 1.32× | kept | 0.83 | 470 | – | – |
    | mps:100/50 | ✗ chat: 329 tokens/s (0.56), products: failed | | | | | | | | |

    Note: telemetry paused for 0.4 s in repeat 2 of mps

    driver 580.159.04 · 3 × 5 s after 1 s of warm-up, arms interleaved · seed 7 · 2026-11-23T18:00:00Z · $7.91 an hour: a price made up for this test · [run.json](<h200/chat/run.json>) · [report.html](<h200/chat/report.html>)


    Generated by `cargo xtask results`.
    "#);
}

#[test]
fn two_runs_differ_only_beyond_their_spread() {
    let before = two_decoders();
    let tenants = before.tenants.clone();
    let slower = Outcome::Ran(vec![fare(1900.0, 0.05), fare(1621.0, 0.05)], 500.0);
    let mut after = synthetic::run("two-decoders", tenants, vec![("mps", slower)]);
    after.host.driver.version = "590.44".to_owned();
    let (a, b) = (Summary::of(&before), Summary::of(&after));
    insta::assert_snapshot!(diff(&Report::new(&before, &a), &Report::new(&after, &b), STYLE), @r#"
    A  two-decoders on NVIDIA H200 · 2026-11-23T18:00:00Z
    B  two-decoders on NVIDIA H200 · 2026-11-23T18:00:00Z
    ! driver differs: A 580.159.04, B 590.44

    arm   figure                 A         B   B ÷ A   B is
    ─────────────────────────────────────────────────────────────────────
    mps   left tokens/s     599 ±6    511 ±5   0.85×   slower
          left ITL p50     1.67 ms   1.96 ms   1.17×   slower
          left ITL p99     1.83 ms   2.14 ms   1.17×   slower
          right tokens/s    599 ±6    598 ±6   1.00×   no difference seen
          right ITL p50    1.67 ms   1.67 ms   1.00×   no difference seen
          right ITL p99    1.83 ms   1.83 ms   1.00×   no difference seen

    ran only in A: solo, time-slicing, mps:50
    Differences are those whose 95 % confidence intervals do not overlap; ±: that interval.
    "#);
}

#[test]
fn programs_get_the_figures_and_where_they_come_from() {
    let run = two_decoders();
    let text = Report::new(&run, &Summary::of(&run)).recorded().json().expect("json");
    let value: serde_json::Value = serde_json::from_str(&text).expect("an object");
    assert_eq!((&value["schema"], &value["recorded"], &value["simulated"]), (&1.into(), &true.into(), &false.into()));
    assert_eq!(value["summary"]["best"], 2);
    assert_eq!(value["summary"]["arms"][2]["arm"], "mps");
}

#[test]
fn the_animation_is_short_small_and_counts_recorded_events() {
    let run = two_decoders();
    let bytes = Report::new(&run, &Summary::of(&run)).recorded().timeline().expect("animation").expect("has traces");
    assert!(bytes.len() < 2 << 20, "{} bytes", bytes.len());
    let mut decoder = gif::DecodeOptions::new().read_info(bytes.as_slice()).expect("a GIF");
    assert_eq!((decoder.width(), decoder.height()), (800, 450));
    let mut delays = Vec::new();
    while let Some(frame) = decoder.read_next_frame().expect("a frame") {
        delays.push(frame.delay);
    }
    assert!(delays.iter().all(|delay| *delay >= 5), "at most 20 frames a second");
    let length: u16 = delays.iter().sum();
    assert!((800..=1200).contains(&length), "{length} hundredths of a second");
}

#[test]
fn there_is_no_animation_without_recorded_times() {
    let mut run = two_decoders();
    let passes = run.arms.iter_mut().flat_map(|record| &mut record.passes);
    passes.flat_map(|pass| &mut pass.windows).for_each(|window| window.trace = None);
    let summary = Summary::of(&run);
    assert!(Report::new(&run, &summary).timeline().expect("no fault").is_none());
    assert!(!Report::new(&run, &summary).html("run.json").contains("id=\"timeline\""));
}

/// Makes these tenants fail in every pass of an arm.
fn fail(run: &mut Run, arm: &str, names: &[&str]) {
    let passes =
        run.arms.iter_mut().filter(|record| record.arm.to_string() == arm).flat_map(|record| &mut record.passes);
    for window in passes.flat_map(|pass| &mut pass.windows).filter(|window| names.contains(&window.tenant.as_str())) {
        window.failure = Some("an illegal memory access was encountered".to_owned());
    }
}

/// Two decoders beside a third tenant that faults on command in both shared arms.
fn faulting() -> Run {
    let decoder = |name| synthetic::decoder(name, Class::Standard);
    let ran = |step| Outcome::Ran(vec![fare(step, 0.02); 3], 400.0);
    let arms = vec![("solo", ran(1130.0)), ("time-slicing", ran(2800.0)), ("mps", ran(2000.0))];
    let mut run = synthetic::run("faults", vec![decoder("left"), decoder("right"), decoder("bad")], arms);
    run.tenants[2].engine = Engine::Kernel(Kernel::Fault);
    run.tenants[2].load = None;
    fail(&mut run, "time-slicing", &["bad"]);
    fail(&mut run, "mps", &["left", "right", "bad"]);
    run
}

#[test]
fn the_headline_says_how_far_a_fault_reached_and_the_arm_who_went_on() {
    let run = faulting();
    let summary = Summary::of(&run);
    assert_eq!(summary.best, None);
    let page = Report::new(&run, &summary).html("run.json");
    assert!(page.contains("progress of each tenant: 0.40 + 0.40 + failed (bad)"), "{page}");
    for width in [80, 100, 140] {
        let text = table(&run, TableStyle { width, ..STYLE });
        let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in [
            "✗ time-slicing 0.40 + 0.40 + failed",
            "✗ mps all failed left, right and bad failed: an illegal memory access",
            "The fault of bad ended only itself under time-slicing; it ended left and right too under mps.",
            "left and right went on in time-slicing, each at 0.40 of its throughput alone.",
        ] {
            assert!(flat.contains(part), "{width}: {part}: {text}");
        }
    }
}

#[test]
fn an_arm_that_stretches_the_tail_of_a_tenant_without_an_slo_is_named() {
    let mut run = two_decoders();
    for pass in
        run.arms.iter_mut().filter(|record| record.arm == Arm::TimeSlicing).flat_map(|record| &mut record.passes)
    {
        let counts = &mut pass.windows[1].histograms.entry(Metric::Itl).or_default().counts;
        counts.push((400_000_000, 60));
    }
    let text = table(&run, STYLE).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        text.contains("time-slicing stretches the tail of right: ITL p99 is 336× what it is alone (400 ms)"),
        "{text}"
    );
    assert!(text.contains("though its median is 2.16×; under mps it is 1.54×."), "{text}");
    assert!(!table(&two_decoders(), STYLE).contains("stretches"));
}

#[test]
fn tenants_that_fared_differently_keep_their_own_blocks() {
    let mut run = two_decoders();
    fail(&mut run, "mps", &["right"]);
    let text = table(&run, STYLE);
    assert!(text.contains("\nleft · tokens") && text.contains("\nright · tokens"), "{text}");
}

#[test]
fn a_tenant_without_a_solo_run_names_the_one_that_stands_for_it() {
    let mut run = two_decoders();
    run.arms[0].passes.retain(|pass| pass.windows[0].tenant == "left");
    let page = Report::new(&run, &Summary::of(&run)).html("run.json");
    assert_eq!(page.matches("<td class=\"n\">as left</td>").count(), 1);
}

#[test]
fn the_point_the_tuner_chose_is_set_against_the_best_of_the_grid() {
    let point = |percent: [u8; 2], aggregate, worst_slo| TuningPoint {
        percent: percent.iter().map(|share| share.to_string().parse().expect("a percentage")).collect(),
        aggregate,
        worst_slo,
        progress: vec![0.9, aggregate - 0.9],
    };
    let mut run = two_decoders();
    run.tuning = Some(Tuning {
        points: vec![point([70, 30], 1.27, 0.95)],
        chosen: Some(0),
        front: vec![0],
        spent: Nanoseconds(59_000_000_000),
        grid: vec![point([50, 50], 1.5, 1.2), point([60, 30], 1.25, 0.99), point([70, 30], 1.2, 0.98)],
    });
    let text = table(&run, STYLE).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("has its best at mps:60/30 at 1.25 × solo; it keeps every SLO."), "{text}");
    assert!(text.contains("The chosen mps:70/30 did 1.20 in the grid's own windows, 0.96× of that."), "{text}");
}
