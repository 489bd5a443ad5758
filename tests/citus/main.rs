//! Tables of Citus as destinations. The tests run where the server offers the extension `citus`
//! (docs/development/citus.md), and say that they are left out elsewhere.
//!
//! `CITUS_FEATURE=name` runs the features whose name contains that.

#![forbid(unsafe_code)]

#[path = "../crash/cluster.rs"]
#[allow(dead_code, reason = "the tests of crashes need more of it")]
mod cluster;
mod features;
mod nodes;
mod scene;

use std::env;

use features::FEATURES;
use nodes::Nodes;
use scene::{Kind, Scene};

/// Each feature, under each guard, ends with tables of Citus as it does with a plain table.
#[test]
fn every_feature_works_as_on_a_plain_table() {
    let Some(nodes) = Nodes::new("citus_matrix") else {
        return;
    };
    let wanted = env::var("CITUS_FEATURE").unwrap_or_default();
    let (mut failed, mut count) = (Vec::new(), 0);
    let mut matrix = String::new();
    for (name, feature) in FEATURES.iter().filter(|(name, _)| name.contains(&wanted)) {
        for guard in support::GUARDS {
            let ends = |kind: Kind| {
                let mut scene = Scene::new(&nodes, kind, guard);
                feature(&mut scene);
                scene.end()
            };
            let plain = ends(Kind::Plain);
            let mut line = format!("{name:<34} {guard:<8}");
            for kind in [Kind::Distributed, Kind::Reference, Kind::Local] {
                let got = ends(kind);
                count += 1;
                line += if got == plain { " ok" } else { " --" };
                if got != plain {
                    failed.push(format!(
                        "{name}, guard {guard}, {kind:?}:\n{}",
                        scene::difference(&plain, &got)
                    ));
                }
            }
            matrix += &format!("{line}\n");
        }
    }
    eprintln!(
        "{matrix}{} of {count} as on a plain table",
        count - failed.len()
    );
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}
