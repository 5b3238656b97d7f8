use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;
const FIRST: InstanceIds = InstanceIds { gpu_instance: 1, compute_instance: 0 };
const SECOND_DEVICE: InstanceIds = InstanceIds { gpu_instance: 2, compute_instance: 0 };

fn gpu() -> GpuUuid {
    GpuUuid("GPU-0".to_owned())
}

fn health() -> Health {
    Health::new(XidPolicy::default(), QUIET)
}

fn notice(second: u64, what: Happening) -> Notice {
    Notice { at: Nanoseconds(second * SECOND), gpu: gpu(), what }
}

fn xid(second: u64, xid: u64) -> Notice {
    notice(second, Happening::Xid { xid, instance: None })
}

fn answered(second: u64, recovery: Option<RecoveryAction>) -> Notice {
    notice(second, Happening::Answered { recovery })
}

fn lost(second: u64) -> Notice {
    notice(second, Happening::Lost { reason: "off the bus".to_owned() })
}

/// What each notice changes: nothing, or what is wrong afterwards.
fn told(health: &mut Health, notices: &[Notice]) -> Vec<String> {
    let one = |notice| match health.step(notice).as_slice() {
        [] => NOTHING.to_owned(),
        [change] => change.trouble.as_ref().map_or_else(|| WELL.to_owned(), ToString::to_string),
        many => panic!("{many:?}"),
    };
    notices.iter().map(one).collect()
}

const NOTHING: &str = "nothing";
const WELL: &str = "well";

#[test]
fn an_error_of_an_application_marks_nothing() {
    let mut health = health();
    for application in [13, 31, 43, 45, 68, 109] {
        assert_eq!(health.step(&xid(1, application)), []);
    }
    assert_eq!(health.step(&notice(1, Happening::MemoryError { corrected: true })), []);
    assert_eq!(health.trouble(&gpu(), None), None);
}

#[test]
fn an_error_that_passes_marks_until_it_has_been_quiet_for_long_enough() {
    let seen = told(
        &mut health(),
        &[xid(0, 94), answered(59, None), xid(59, 94), answered(118, None), answered(119, None), answered(120, None)],
    );
    let wrong = "XID 94 (contained memory error); healthy again when no further error comes";
    assert_eq!(seen, [wrong, NOTHING, NOTHING, NOTHING, WELL, NOTHING]);
}

#[test]
fn an_error_that_needs_a_reset_marks_until_the_driver_asks_for_it_no_more() {
    let seen = told(
        &mut health(),
        &[
            xid(0, 48),
            answered(1, Some(RecoveryAction::Nothing)),
            answered(2, Some(RecoveryAction::GpuReset)),
            answered(9_000, Some(RecoveryAction::GpuReset)),
            answered(9_001, None),
            answered(9_002, Some(RecoveryAction::Nothing)),
        ],
    );
    assert_eq!(seen, ["XID 48 (double-bit ECC error); it must be reset", NOTHING, NOTHING, NOTHING, NOTHING, WELL]);
}

#[test]
fn a_driver_that_says_nothing_of_resets_leaves_it_to_whoever_did_it() {
    let mut health = health();
    assert_eq!(told(&mut health, &[xid(0, 120), answered(90_000, None)])[1], NOTHING);
    assert_eq!(health.clear(&gpu()), [HealthChange { place: whole(&gpu()), trouble: None }]);
    assert_eq!(health.trouble(&gpu(), None), None);
    assert_eq!(health.clear(&gpu()), [], "told twice");
}

#[test]
fn a_lost_gpu_is_healthy_when_it_answers_again() {
    let seen = told(&mut health(), &[xid(0, 79), lost(1), lost(2), xid(3, 94), answered(4, None), lost(5)]);
    let gone = "the GPU does not answer: off the bus; healthy when it answers again";
    assert_eq!(seen, ["XID 79 (GPU has fallen off the bus); it must be reset", gone, NOTHING, NOTHING, WELL, gone]);
}

#[test]
fn a_gpu_that_is_back_and_not_well_stays_marked() {
    let mut health = health();
    let seen = told(
        &mut health,
        &[lost(0), answered(1, Some(RecoveryAction::NodeReboot)), answered(2, Some(RecoveryAction::Nothing))],
    );
    assert_eq!(seen[1..], ["the driver asks for a reboot of the node; it must be reset", WELL]);
}

#[test]
fn what_the_driver_asks_for_marks_without_an_error_as_after_a_restart_of_the_agent() {
    let seen = told(&mut health(), &[answered(0, Some(RecoveryAction::GpuReset)), answered(1, None)]);
    assert_eq!(seen, ["the driver asks for a reset of the GPU; it must be reset", NOTHING]);
}

#[test]
fn an_error_in_a_mig_device_marks_that_one_and_a_reset_marks_them_all() {
    let mut health = health();
    let inside = |second, xid| notice(second, Happening::Xid { xid, instance: Some(FIRST) });
    assert_eq!(health.step(&inside(0, 94))[0].place, Place { gpu: gpu(), instance: Some(FIRST) });
    assert!(health.trouble(&gpu(), Some(FIRST)).is_some());
    assert_eq!((health.trouble(&gpu(), Some(SECOND_DEVICE)), health.trouble(&gpu(), None)), (None, None));
    assert_eq!(health.step(&inside(1, 95))[0].place, whole(&gpu()));
    assert!(health.trouble(&gpu(), Some(SECOND_DEVICE)).is_some());
    let mended: Vec<_> = health.clear(&gpu()).into_iter().map(|change| change.place.instance).collect();
    assert_eq!(mended, [None, Some(FIRST)]);
}

#[test]
fn one_gpu_does_not_mend_another() {
    let mut health = health();
    health.step(&lost(0));
    let other = Notice { gpu: GpuUuid("GPU-1".to_owned()), ..answered(1, None) };
    assert_eq!(health.step(&other), []);
    assert!(health.trouble(&gpu(), None).is_some());
}

fn any_happening() -> impl Strategy<Value = Happening> {
    let xids = prop::sample::select(vec![13_u64, 31, 48, 63, 79, 94, 95, 154]);
    let instance = prop::option::of(prop::sample::select(vec![FIRST, SECOND_DEVICE]));
    let recovery = prop::option::of((0_u32..4).prop_map(RecoveryAction::from_number));
    prop_oneof![
        (xids, instance).prop_map(|(xid, instance)| Happening::Xid { xid, instance }),
        Just(Happening::Lost { reason: "gone".to_owned() }),
        recovery.prop_map(|recovery| Happening::Answered { recovery }),
    ]
}

proptest! {
    /// Whoever keeps the changes knows what the state knows, and no change says what was known.
    #[test]
    fn the_changes_tell_everything_and_nothing_twice(happenings in prop::collection::vec((0_u64..40, any_happening()), 0..60)) {
        let mut health = health();
        let (mut second, mut kept) = (0, BTreeMap::new());
        for (later, what) in happenings {
            second += later;
            for change in health.step(&notice(second, what)) {
                let before = kept.remove(&change.place);
                prop_assert!(before.is_some() || change.trouble.is_some(), "mended what was well");
                kept.extend(change.trouble.map(|trouble| (change.place, trouble.cause)));
            }
            let known: BTreeMap<_, _> =
                health.troubles.iter().map(|(place, trouble)| (place.clone(), trouble.cause.clone())).collect();
            prop_assert_eq!(&kept, &known);
        }
    }

    /// However it got there, a GPU that answers, is well by the driver's word and is left alone is healthy in the end.
    #[test]
    fn a_gpu_that_returns_and_is_left_alone_is_healthy_again(happenings in prop::collection::vec(any_happening(), 0..30)) {
        let mut health = health();
        for what in happenings {
            health.step(&notice(1, what));
        }
        health.step(&lost(2));
        health.step(&answered(3, Some(RecoveryAction::Nothing)));
        prop_assert_eq!(health.trouble(&gpu(), Some(FIRST)), None);
    }
}
