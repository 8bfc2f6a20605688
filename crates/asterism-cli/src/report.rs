//! Numbers for people and for programs.

use asterism::engine::{AnswerText, Phase1, Revisited, Sparsity};
use asterism::plan::{AnchorKv, Method, Plan};
use serde_json::{Value, json};
use std::time::Duration;

/// `12.3 GB`, in powers of 1000.
pub(crate) fn bytes(n: u64) -> String {
    scaled(n as f64, "B", &["B", "kB", "MB", "GB", "TB"])
}

/// `61.2 TFLOP`.
pub(crate) fn flops(n: u128) -> String {
    scaled(n as f64, "FLOP", &["FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP"])
}

/// Operations for programs: exact as long as JSON's readers are.
pub(crate) fn flops_json(n: u128) -> Value {
    u64::try_from(n).map_or_else(|_| (n as f64).into(), Value::from)
}

/// `25.0 Gbit/s`.
pub(crate) fn bit_rate(bits_per_second: f64) -> String {
    scaled(bits_per_second, "bit/s", &["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"])
}

fn scaled(mut n: f64, one: &str, units: &[&str]) -> String {
    let mut unit = 0;
    while n >= 999.95 && unit + 1 < units.len() {
        n /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{n:.0} {one}") } else { format!("{n:.1} {}", units[unit]) }
}

/// `1.23 s`, with as many digits as matter.
pub(crate) fn seconds(time: Duration) -> String {
    let s = time.as_secs_f64();
    match s {
        s if s < 0.0995 => format!("{:.1} ms", s * 1000.0),
        s if s < 9.995 => format!("{s:.2} s"),
        s => format!("{s:.1} s"),
    }
}

/// `12,345`.
pub(crate) fn count(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// What was run: `star, 30 blocks of 4,096 (anchor 4,096, shared) x 4 hosts`.
pub(crate) fn plan(plan: &Plan) -> String {
    let hosts = if plan.spec.hosts == 1 { "host" } else { "hosts" };
    let shape = match plan.spec.method {
        Method::Star(star) => {
            let kv = match star.anchor_kv {
                AnchorKv::Shared => "shared",
                AnchorKv::Recompute => "recomputed",
                AnchorKv::Auto => "shared or recomputed",
            };
            let anchor = match plan.anchor {
                0 => "no anchor".to_owned(),
                n => format!("anchor {}, {kv}", count(n)),
            };
            let blocks = if plan.blocks() == 1 { "block" } else { "blocks" };
            let revisits = match plan.revisited(star.revisit) {
                0 => String::new(),
                n => format!(", revisits {}", count(n)),
            };
            let sparse = star.sparse.map_or_else(String::new, |sparse| format!(", {sparse}"));
            let (blocks, block) = (format!("{} {blocks}", plan.blocks()), count(star.block));
            format!(", {blocks} of {block} ({anchor}){sparse}{revisits}")
        }
        _ => String::new(),
    };
    let name = match plan.spec.method {
        Method::Sparse(sparse) => sparse.to_string(),
        method => method.to_string(),
    };
    let pressed = plan.spec.press.map_or_else(String::new, |press| format!(", {press}"));
    format!("{name}{shape}{pressed} x {} {hosts}", plan.spec.hosts)
}

/// The closing line of an answer.
pub(crate) fn closing_line(shape: &Plan, phase1: &Phase1, answer: &AnswerText) -> String {
    let generated = &answer.generated;
    let rate = phase1.tokens as f64 / phase1.time.as_secs_f64();
    let kept = match phase1.sparsity {
        Some(sparsity) => format!(", {}", self::sparsity(sparsity)),
        None => String::new(),
    };
    let revisited = match generated.revisited {
        Revisited { tokens: 0, .. } => String::new(),
        Revisited { tokens, time } => {
            format!("{} revisited in {}, ", count(tokens), seconds(time))
        }
    };
    format!(
        "[{} | phase 1: {} tokens in {} ({} tokens/s){kept} | phase 2: {revisited}{} tokens in {}, then {} tokens at {:.0} tokens/s | sent {}]",
        plan(shape),
        count(phase1.tokens),
        seconds(phase1.time),
        count(rate as usize),
        count(generated.query_tokens),
        seconds(generated.query_time),
        generated.tokens.len(),
        generated.tokens_per_second(),
        bytes(phase1.bytes_sent + generated.bytes_sent),
    )
}

/// `density 21.3%, kept mass 97.2%`.
pub(crate) fn sparsity(sparsity: Sparsity) -> String {
    let percent = |share: f64| 100.0 * share;
    let (density, mass) = (percent(sparsity.density()), percent(sparsity.kept_mass()));
    format!("density {density:.1}%, kept mass {mass:.1}%")
}

/// Everything that was measured, for programs.
pub(crate) fn timings(phase1: &Phase1, answer: &AnswerText) -> Value {
    let generated = &answer.generated;
    json!({
        "context_tokens": phase1.tokens,
        "reused_tokens": phase1.reused.iter().map(|block| block.len).sum::<usize>(),
        "phase1_s": phase1.time.as_secs_f64(),
        "query_tokens": generated.query_tokens,
        "query_s": generated.query_time.as_secs_f64(),
        "decode_tokens": generated.tokens.len(),
        "decode_s": generated.decode_time.as_secs_f64(),
        "decode_tokens_per_s": generated.tokens_per_second(),
        "phase1_bytes_sent": phase1.bytes_sent,
        "phase2_bytes_sent": generated.bytes_sent,
        "kv_bytes": phase1.kv_bytes,
        "revisited_tokens": generated.revisited.tokens,
        "revisit_s": generated.revisited.time.as_secs_f64(),
        "density": phase1.sparsity.map(Sparsity::density),
        "kept_mass": phase1.sparsity.map(Sparsity::kept_mass),
    })
}

/// How the context was encoded, for programs.
pub(crate) fn plan_json(plan: &Plan) -> Value {
    let mut value = json!({ "method": plan.spec.method.name(), "hosts": plan.spec.hosts });
    if let Method::Sparse(sparse) = plan.spec.method {
        value["settings"] = sparse.to_string().into();
    }
    if let Method::Star(star) = plan.spec.method {
        value["block"] = star.block.into();
        value["anchor"] = plan.anchor.into();
        value["anchor_kv"] = match star.anchor_kv {
            AnchorKv::Shared => "shared".into(),
            AnchorKv::Recompute => "recompute".into(),
            AnchorKv::Auto => "auto".into(),
        };
        if let Some(sparse) = star.sparse {
            value["sparse"] = sparse.to_string().into();
        }
        value["blocks"] = plan.blocks().into();
        value["revisits"] = plan.revisited(star.revisit).into();
    }
    value
}

/// A table with the first column flush left, the others flush right.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([header[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut out = String::new();
        for (i, (cell, width)) in cells.zip(&widths).enumerate() {
            if i == 0 {
                out.push_str(&format!("{cell:<width$}"));
            } else {
                out.push_str(&format!("  {cell:>width$}"));
            }
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
        out
    };
    let mut out = line(&mut header.iter().copied());
    for row in rows {
        out.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_234_567), "1.2 MB");
        assert_eq!(bit_rate(2.5e10), "25.0 Gbit/s");
        assert_eq!(flops(61_234_000_000_000), "61.2 TFLOP");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(12), "12");
        assert_eq!(seconds(Duration::from_millis(12)), "12.0 ms");
        assert_eq!(seconds(Duration::from_millis(1234)), "1.23 s");
        assert_eq!(seconds(Duration::from_secs(75)), "75.0 s");
    }

    #[test]
    fn columns_line_up() {
        let text = table(&["a", "bb"], &[vec!["xyz".into(), "1".into()]]);
        assert_eq!(text, "a    bb\nxyz   1\n");
    }
}
