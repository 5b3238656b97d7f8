//! One colour, dash and mark an arm, the same in every chart and picture of a report.
//!
//! The hues are those of Okabe and Ito's palette for colour-blind readers, darkened on white and lightened on black until
//! each has a contrast of at least 4.5:1 with the page. Colour never stands alone: each arm is also named where it is drawn.

use cotenant_model::Arm;

/// The look of an arm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ink {
    /// Number of the CSS class, `a0` to `a7`.
    pub(crate) slot: usize,
    /// Dashes of its lines, in SVG's notation; empty for a solid line.
    pub(crate) dash: &'static str,
    /// Colour on the animation's dark ground.
    pub(crate) rgb: (u8, u8, u8),
}

/// A colour on white, one on black, dashes, and the colour on black again in parts.
type Slot = (&'static str, &'static str, &'static str, (u8, u8, u8));

/// The looks there are; the first three are of `solo`, `time-slicing` and `mps`.
pub(crate) const SLOTS: [Slot; 8] = [
    ("#68707c", "#a3acb9", "5 4", (0xa3, 0xac, 0xb9)),
    ("#b84a00", "#ff9a4d", "", (0xff, 0x9a, 0x4d)),
    ("#0067a8", "#5cb4f0", "", (0x5c, 0xb4, 0xf0)),
    ("#007a58", "#3ccf9f", "9 3", (0x3c, 0xcf, 0x9f)),
    ("#a83d7c", "#ee94c6", "2 2.5", (0xee, 0x94, 0xc6)),
    ("#806400", "#e8c63f", "9 3 2 3", (0xe8, 0xc6, 0x3f)),
    ("#5a4fcf", "#a79dff", "1 3 7 3", (0xa7, 0x9d, 0xff)),
    ("#2b3340", "#e2e7ee", "14 4", (0xe2, 0xe7, 0xee)),
];

/// The looks of a run's arms, in their order.
pub(crate) fn inks<'a>(arms: impl Iterator<Item = &'a Arm>) -> Vec<Ink> {
    let mut others = (3..SLOTS.len()).cycle();
    arms.map(|arm| {
        let slot = match arm {
            Arm::Solo => 0,
            Arm::TimeSlicing => 1,
            Arm::Mps => 2,
            Arm::MpsPercent(_) | Arm::MpsMemory | Arm::Mig(_) => others.next().unwrap_or(3),
        };
        ink(slot)
    })
    .collect()
}

fn ink(slot: usize) -> Ink {
    let (_, _, dash, rgb) = SLOTS[slot % SLOTS.len()];
    Ink { slot, dash, rgb }
}

/// CSS variables of every slot, for the light page or the dark one.
pub(crate) fn variables(dark: bool) -> String {
    let colour = |(light, night, ..): &Slot| if dark { *night } else { *light };
    SLOTS.iter().enumerate().map(|(slot, colours)| format!("--arm{slot}:{};", colour(colours))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Contrast of two colours by WCAG 2.2's formula.
    fn contrast(one: &str, other: &str) -> f64 {
        let luminance = |hex: &str| {
            let channel = |at: usize| {
                let value = f64::from(u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")) / 255.0;
                if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
            };
            0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
        };
        let (one, other) = (luminance(one), luminance(other));
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    #[test]
    fn every_colour_stands_out_from_its_page() {
        for (light, dark, ..) in SLOTS {
            assert!(contrast(light, "#fbfbf9") >= 4.5, "{light} on the light page");
            assert!(contrast(dark, "#14171c") >= 4.5, "{dark} on the dark page");
        }
    }

    #[test]
    fn an_arm_keeps_its_colour_whatever_else_runs() {
        let arms: Vec<Arm> = ["mps:50", "mps", "solo"].iter().map(|text| text.parse().expect("arm")).collect();
        let slots: Vec<usize> = inks(arms.iter()).iter().map(|ink| ink.slot).collect();
        assert_eq!(slots, [3, 2, 0]);
    }
}
