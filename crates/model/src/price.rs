//! What a GPU costs an hour when nobody says.

use crate::MicroUsd;
use crate::run::Price;

/// On-demand Linux prices in us-east-1 of 2026-07-20, per GPU: the instance's price over its GPUs.
///
/// Source: the price list that AWS publishes, as carried by `karpenter-provider-aws` (`zz_generated.pricing_aws.go`,
/// Apache-2.0, generated 2026-07-20). Each row: part of the product name, the instance, its price, its GPUs.
const ON_DEMAND: &[(&str, &str, u64, u64)] = &[
    ("H200", "p5en.48xlarge", 63_296_000, 8),
    ("H100", "p5.4xlarge", 6_880_000, 1),
    ("A100-SXM4-80GB", "p4de.24xlarge", 27_447_050, 8),
    ("A100-SXM4-40GB", "p4d.24xlarge", 21_957_642, 8),
    ("L40S", "g6e.xlarge", 1_861_000, 1),
    ("A10G", "g5.xlarge", 1_006_000, 1),
    ("L4", "g6.xlarge", 804_800, 1),
    ("T4", "g4dn.xlarge", 526_000, 1),
    ("B200", "p6-b200.48xlarge", 113_932_800, 8),
    ("B300", "p6-b300.48xlarge", 142_416_000, 8),
    ("RTX PRO 6000", "g7e.2xlarge", 3_363_120, 1),
];

/// The bundled price of a GPU by its product name; `None` for one that AWS does not rent.
#[must_use]
pub fn bundled(product: &str) -> Option<Price> {
    let words: Vec<&str> = product.split([' ', '_']).collect();
    let (_, instance, price, gpus) =
        ON_DEMAND.iter().find(|(name, ..)| words.contains(name) || (name.contains(' ') && product.contains(name)))?;
    Some(Price {
        per_hour: MicroUsd(price / gpus),
        source: format!("AWS {instance} on demand, us-east-1, 2026-07-20, 1 of {gpus} GPUs"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_per_gpu_and_names_its_source() {
        let price = bundled("NVIDIA H200").expect("bundled");
        assert_eq!(price.per_hour, MicroUsd(7_912_000));
        assert_eq!(price.source, "AWS p5en.48xlarge on demand, us-east-1, 2026-07-20, 1 of 8 GPUs");
    }

    #[test]
    fn an_l40s_is_not_priced_as_an_l4_and_an_unknown_gpu_not_at_all() {
        assert_eq!(bundled("NVIDIA L40S").map(|p| p.per_hour), Some(MicroUsd(1_861_000)));
        assert_eq!(bundled("NVIDIA L4").map(|p| p.per_hour), Some(MicroUsd(804_800)));
        assert_eq!(bundled("NVIDIA H100 80GB HBM3").map(|p| p.per_hour), Some(MicroUsd(6_880_000)));
        assert_eq!(bundled("NVIDIA GeForce RTX 4090"), None);
    }
}
