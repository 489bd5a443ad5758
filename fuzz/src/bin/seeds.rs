//! Writes the inputs to begin with into `corpus/<target>/` of the working directory.

use std::fs;
use std::path::Path;

fn main() -> std::io::Result<()> {
    for (target, _) in pg_sequin_fuzz::targets::ALL {
        let dir = Path::new("corpus").join(target);
        fs::create_dir_all(&dir)?;
        for (n, seed) in pg_sequin_fuzz::seeds::of(target).iter().enumerate() {
            fs::write(dir.join(format!("seed{n}")), seed)?;
        }
    }
    Ok(())
}
