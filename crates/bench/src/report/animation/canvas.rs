//! A picture of palette indices that text and rectangles are drawn on.

use std::convert::Infallible;

use embedded_graphics::mono_font::{MonoFont, MonoTextStyle};
use embedded_graphics::pixelcolor::PixelColor;
use embedded_graphics::prelude::{DrawTarget, OriginDimensions, Point, Size};
use embedded_graphics::text::{Alignment, Text};
use embedded_graphics::{Drawable as _, Pixel};

/// Width of the picture.
pub(crate) const WIDTH: u16 = 800;
/// Height of the picture.
pub(crate) const HEIGHT: u16 = 450;

/// An entry of the palette.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Paint {
    /// The ground.
    Ground,
    /// A lane.
    Lane,
    /// Text.
    Text,
    /// Text that matters less.
    Soft,
    /// The first arm.
    First,
    /// The first arm, faint.
    FirstDim,
    /// The second arm.
    Second,
    /// The second arm, faint.
    SecondDim,
    /// Ground of `recorded` and `simulated`.
    Mark,
    /// Text on it.
    MarkText,
    /// What the frame before showed.
    Unchanged,
}

impl PixelColor for Paint {
    type Raw = ();
}

impl Paint {
    /// The palette in the order of the variants, for these colours of the arms.
    pub(crate) fn colours(first: (u8, u8, u8), second: (u8, u8, u8)) -> Vec<u8> {
        let dim = |(r, g, b): (u8, u8, u8)| (r / 5 + 20, g / 5 + 22, b / 5 + 26);
        let entries = [
            (0x14, 0x17, 0x1c),
            (0x20, 0x25, 0x2d),
            (0xe8, 0xea, 0xee),
            (0xa7, 0xaf, 0xbc),
            first,
            dim(first),
            second,
            dim(second),
            (0xff, 0xdf, 0x94),
            (0x3b, 0x2f, 0x10),
            (0, 0, 0),
        ];
        entries.iter().flat_map(|(r, g, b)| [*r, *g, *b]).collect()
    }
}

/// The picture.
#[derive(Debug, Clone)]
pub(crate) struct Canvas {
    pixels: Vec<u8>,
}

impl Default for Canvas {
    fn default() -> Self {
        Self { pixels: vec![Paint::Ground as u8; usize::from(WIDTH) * usize::from(HEIGHT)] }
    }
}

impl OriginDimensions for Canvas {
    fn size(&self) -> Size {
        Size::new(u32::from(WIDTH), u32::from(HEIGHT))
    }
}

impl DrawTarget for Canvas {
    type Color = Paint;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Paint>>>(&mut self, pixels: I) -> Result<(), Infallible> {
        for Pixel(point, paint) in pixels {
            if let (Ok(x), Ok(y)) = (usize::try_from(point.x), usize::try_from(point.y))
                && x < usize::from(WIDTH)
                && let Some(pixel) = self.pixels.get_mut(y * usize::from(WIDTH) + x)
            {
                *pixel = paint as u8;
            }
        }
        Ok(())
    }
}

/// The nearest pixel to a place; absurd places are far outside.
#[expect(clippy::cast_possible_truncation, reason = "`as` saturates, and what lies outside the picture is not drawn")]
pub(crate) fn pixel(place: f64) -> i32 {
    place.clamp(-1e6, 1e6).round() as i32
}

impl Canvas {
    /// Fills the part of a rectangle that lies in the picture.
    pub(crate) fn fill(&mut self, x: i32, y: i32, (width, height): (i32, i32), paint: Paint) {
        let inside = |value: i32, most: u16| usize::try_from(value.clamp(0, i32::from(most))).unwrap_or(0);
        let (left, right) = (inside(x, WIDTH), inside(x.saturating_add(width), WIDTH));
        let (top, bottom) = (inside(y, HEIGHT), inside(y.saturating_add(height), HEIGHT));
        for row in self.pixels.chunks_exact_mut(usize::from(WIDTH)).take(bottom).skip(top) {
            if let Some(part) = row.get_mut(left..right) {
                part.fill(paint as u8);
            }
        }
    }

    /// Writes text whose top left, or top right, corner is at a place; what the font lacks becomes `?`.
    pub(crate) fn write(&mut self, text: &str, at: Point, font: &MonoFont<'_>, (paint, alignment): (Paint, Alignment)) {
        let plain: String = text.chars().map(|c| if c == '…' { '.' } else { c }).collect();
        let baseline = Point::new(at.x, at.y + i32::try_from(font.baseline).unwrap_or(0));
        let drawn = Text::with_alignment(&plain, baseline, MonoTextStyle::new(font, paint), alignment).draw(self);
        drawn.map_or_else(|never| match never {}, |_end| ());
    }

    /// The smallest rectangle (left, top, width, height) in which the two differ; `None` where they are equal.
    pub(crate) fn difference(&self, other: &Self) -> Option<(u16, u16, u16, u16)> {
        let rows = self.pixels.chunks_exact(usize::from(WIDTH)).zip(other.pixels.chunks_exact(usize::from(WIDTH)));
        let mut bounds: Option<(u16, u16, u16, u16)> = None;
        for (y, (mine, theirs)) in (0_u16..).zip(rows).filter(|(_, (mine, theirs))| mine != theirs) {
            let differs = |x: &u16| mine[usize::from(*x)] != theirs[usize::from(*x)];
            let (left, right) = ((0..WIDTH).find(differs)?, (0..WIDTH).rev().find(differs)?);
            let (l, t, r, _) = bounds.unwrap_or((left, y, right, y));
            bounds = Some((l.min(left), t, r.max(right), y));
        }
        bounds.map(|(left, top, right, bottom)| (left, top, right - left + 1, bottom - top + 1))
    }

    /// The pixels of a rectangle, those that are as before marked [`Paint::Unchanged`].
    pub(crate) fn cut(&self, before: Option<&Self>, (left, top, width, height): (u16, u16, u16, u16)) -> Vec<u8> {
        let rows = usize::from(top)..usize::from(top) + usize::from(height);
        let mut pixels = Vec::with_capacity(usize::from(width) * usize::from(height));
        for row in rows {
            let from = row * usize::from(WIDTH) + usize::from(left);
            let range = from..from + usize::from(width);
            let now = self.pixels.get(range.clone()).unwrap_or_default();
            match before.and_then(|before| before.pixels.get(range)) {
                Some(old) => pixels.extend(
                    now.iter().zip(old).map(|(now, old)| if now == old { Paint::Unchanged as u8 } else { *now }),
                ),
                None => pixels.extend_from_slice(now),
            }
        }
        pixels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_is_cut_out() {
        let (before, mut now) = (Canvas::default(), Canvas::default());
        assert_eq!(now.difference(&before), None);
        now.fill(10, 20, (3, 2), Paint::First);
        now.fill(790, 440, (100, 100), Paint::Ground);
        assert_eq!(now.difference(&before), Some((10, 20, 3, 2)));
        let cut = now.cut(Some(&before), (9, 20, 4, 1));
        assert_eq!(cut, [Paint::Unchanged as u8, Paint::First as u8, Paint::First as u8, Paint::First as u8]);
    }

    #[test]
    fn drawing_outside_the_picture_is_no_fault() {
        let mut canvas = Canvas::default();
        canvas.fill(-50, -50, (20, 20), Paint::First);
        canvas.fill(i32::MAX, i32::MAX, (i32::MAX, i32::MAX), Paint::First);
        assert_eq!(canvas.difference(&Canvas::default()), None);
        assert_eq!(pixel(f64::NAN), 0);
    }
}
