//! Star Attention by its definition, for comparison: one pass over all tokens with the block-sparse
//! mask written out, f64 arithmetic, the checkpoint read with the safetensors crate. Shares no code
//! with the engine.

use std::collections::HashMap;
use std::path::Path;

/// Sizes and tensors of a plain Llama checkpoint (no biases, no rope scaling).
pub struct NaiveLlama {
    tensors: HashMap<String, Vec<f64>>,
    hidden: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    vocab: usize,
    theta: f64,
    eps: f64,
    tied: bool,
}

/// What passes while a text runs through the model.
pub enum Seen<'a> {
    /// Of a head, the softmax weights of all tokens for one.
    Weights { layer: usize, token: usize, weights: &'a [f64] },
    /// The values of all tokens.
    Values { layer: usize, values: &'a [Vec<f64>] },
}

impl NaiveLlama {
    pub fn open(dir: &Path) -> Self {
        let config: serde_json::Value =
            serde_json::from_slice(&std::fs::read(dir.join("config.json")).unwrap()).unwrap();
        let int = |name: &str| config[name].as_u64().map(|v| v as usize);
        let mut tensors = HashMap::new();
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if !name.starts_with("model") || !name.ends_with(".safetensors") {
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            for (name, view) in safetensors::SafeTensors::deserialize(&bytes).unwrap().tensors() {
                let values = match view.dtype() {
                    safetensors::Dtype::F32 => view
                        .data()
                        .chunks(4)
                        .map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap())))
                        .collect(),
                    safetensors::Dtype::BF16 => view
                        .data()
                        .chunks(2)
                        .map(|b| half::bf16::from_le_bytes(b.try_into().unwrap()).to_f64())
                        .collect(),
                    other => panic!("dtype {other:?}"),
                };
                tensors.insert(name, values);
            }
        }
        let heads = int("num_attention_heads").unwrap();
        let hidden = int("hidden_size").unwrap();
        Self {
            tensors,
            hidden,
            heads,
            layers: int("num_hidden_layers").unwrap(),
            kv_heads: int("num_key_value_heads").unwrap_or(heads),
            head_dim: int("head_dim").unwrap_or(hidden / heads),
            vocab: int("vocab_size").unwrap(),
            theta: config["rope_theta"].as_f64().unwrap_or(10_000.0),
            eps: config["rms_norm_eps"].as_f64().unwrap(),
            tied: config["tie_word_embeddings"].as_bool().unwrap_or(false),
        }
    }

    /// Logits after the last query token of a context of `n` tokens encoded in blocks of `block`
    /// tokens behind an anchor of `anchor`, followed by a query that sees everything.
    pub fn star(&self, tokens: &[u32], n: usize, block: usize, anchor: usize) -> Vec<f32> {
        // A context token sees the anchor and its own block, a query token sees all before it.
        let sees = |i: usize, j: usize| {
            j <= i && (i >= n || j / block == i / block || j < anchor.min(block))
        };
        let positions: Vec<usize> = (0..tokens.len()).collect();
        self.logits(tokens, &positions, &sees, &mut |_| ())
    }

    /// How much the query looks at each token of the context of [`Self::star`], `[layers, n]`:
    /// softmax weight among the keys of the context, summed over the query's tokens and heads.
    pub fn weights(&self, tokens: &[u32], n: usize, block: usize, anchor: usize) -> Vec<f32> {
        self.weights_again(tokens, n, block, anchor, &[])
    }

    /// The same over the keys of [`Self::revisited`]: of the tokens `chosen`, their new ones.
    pub fn weights_again(
        &self,
        tokens: &[u32],
        n: usize,
        block: usize,
        anchor: usize,
        chosen: &[u32],
    ) -> Vec<f32> {
        let keys = n + chosen.len();
        let mut sums = vec![0.0; self.layers * n];
        self.revisiting(tokens, n, block, anchor, chosen, &mut |seen| {
            if let Seen::Weights { layer, token, weights } = seen
                && token >= keys
            {
                let total: f64 = weights[..keys].iter().sum();
                for (key, weight) in weights[..keys].iter().enumerate() {
                    let token = if key < n { key } else { chosen[key - n] as usize };
                    sums[layer * n + token] += weight / total;
                }
            }
        });
        sums.into_iter().map(|sum| sum as f32).collect()
    }

    /// By how much the values of each token of the context of [`Self::star`] differ in the second
    /// layer from those of full attention: squares, summed over their elements.
    pub fn changes(&self, tokens: &[u32], n: usize, block: usize, anchor: usize) -> Vec<f32> {
        let values = |block: usize| {
            let mut second = Vec::new();
            self.revisiting(tokens, n, block, anchor, &[], &mut |seen| {
                if let Seen::Values { layer: 1, values } = seen {
                    second = values.to_vec();
                }
            });
            second
        };
        let (of_blocks, of_all) = (values(block), values(n));
        let change = |(a, b): (&Vec<f64>, &Vec<f64>)| {
            a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>() as f32
        };
        of_blocks.iter().zip(&of_all).map(change).take(n).collect()
    }

    /// As [`Self::star`], the tokens `chosen` of the context computed anew with all before them in
    /// sight.
    pub fn revisited(
        &self,
        tokens: &[u32],
        n: usize,
        block: usize,
        anchor: usize,
        chosen: &[u32],
    ) -> Vec<f32> {
        self.revisiting(tokens, n, block, anchor, chosen, &mut |_| ())
    }

    /// The same, `note` being told what passes. The chosen tokens stand here once more, between
    /// context and query, and nobody but their blocks sees their old keys.
    fn revisiting(
        &self,
        tokens: &[u32],
        n: usize,
        block: usize,
        anchor: usize,
        chosen: &[u32],
        note: &mut dyn FnMut(Seen<'_>),
    ) -> Vec<f32> {
        let chosen: Vec<usize> = chosen.iter().map(|token| *token as usize).collect();
        let (context, query) = tokens.split_at(n);
        let anew: Vec<u32> = chosen.iter().map(|token| context[*token]).collect();
        let ids = [context, &anew, query].concat();
        let positions: Vec<usize> =
            (0..n).chain(chosen.iter().copied()).chain(n..tokens.len()).collect();
        let sees = |i: usize, j: usize| match (i < n, j < n) {
            (true, true) => j <= i && (j / block == i / block || j < anchor.min(block)),
            (false, true) => positions[j] < positions[i] && !chosen.contains(&j),
            _ => j <= i,
        };
        self.logits(&ids, &positions, &sees, note)
    }

    /// As [`Self::star`], each block but the first behind tokens of its own: `anchors` has those
    /// and the position of the first of them. What a block's input is stands here one after the
    /// other.
    pub fn star_behind(
        &self,
        tokens: &[u32],
        n: usize,
        block: usize,
        anchors: &[(Vec<u32>, usize)],
    ) -> Vec<f32> {
        let (mut ids, mut positions, mut owners) = (Vec::new(), Vec::new(), Vec::new());
        let mut add = |part: &[u32], start: usize, owner: (usize, bool)| {
            ids.extend_from_slice(part);
            positions.extend(start..start + part.len());
            owners.extend(part.iter().map(|_| owner));
        };
        let blocks = n.div_ceil(block);
        for b in 0..blocks {
            if b > 0 {
                let (anchor, start) = &anchors[b - 1];
                add(anchor, *start, (b, true));
            }
            add(&tokens[b * block..n.min((b + 1) * block)], b * block, (b, false));
        }
        add(&tokens[n..], n, (blocks, false));
        // A token sees what comes before it in its block's input; a query token sees all but
        // anchors.
        let sees = |i: usize, j: usize| {
            let ((of, _), (other, is_anchor)) = (owners[i], owners[j]);
            j <= i && (of == other || of == blocks && !is_anchor)
        };
        self.logits(&ids, &positions, &sees, &mut |_| ())
    }

    /// Logits after the last token; token `i` stands at `positions[i]` and sees token `j` if
    /// `sees(i, j)`. `note` is told what passes.
    pub fn logits(
        &self,
        tokens: &[u32],
        positions: &[usize],
        sees: &dyn Fn(usize, usize) -> bool,
        note: &mut dyn FnMut(Seen<'_>),
    ) -> Vec<f32> {
        let w = |name: &str| self.tensors[name].as_slice();
        let embedding = w("model.embed_tokens.weight");
        let mut x: Vec<Vec<f64>> = tokens
            .iter()
            .map(|t| embedding[*t as usize * self.hidden..][..self.hidden].to_vec())
            .collect();
        for l in 0..self.layers {
            let w =
                |name: &str| self.tensors[&format!("model.layers.{l}.{name}.weight")].as_slice();
            let normed: Vec<_> = x.iter().map(|x| self.norm(x, w("input_layernorm"))).collect();
            let heads = |name, count| -> Vec<Vec<f64>> {
                let project = |x: &Vec<f64>| matvec(w(name), x);
                let mut rows: Vec<Vec<f64>> = normed.iter().map(project).collect();
                if count > 0 {
                    for (position, row) in positions.iter().zip(&mut rows) {
                        row.chunks_mut(self.head_dim).for_each(|head| self.rotate(head, *position));
                    }
                }
                rows
            };
            let q = heads("self_attn.q_proj", self.heads);
            let k = heads("self_attn.k_proj", self.kv_heads);
            let v = heads("self_attn.v_proj", 0);
            note(Seen::Values { layer: l, values: &v });
            for i in 0..x.len() {
                let mut attended = Vec::new();
                for h in 0..self.heads {
                    let g = h / (self.heads / self.kv_heads);
                    let weights = self.attention(&q[i], &k, h, g, &|j| sees(i, j));
                    note(Seen::Weights { layer: l, token: i, weights: &weights });
                    let mut out = vec![0.0; self.head_dim];
                    for (weight, v) in weights.iter().zip(&v) {
                        let v = &v[g * self.head_dim..];
                        out.iter_mut().zip(v).for_each(|(o, v)| *o += weight * v);
                    }
                    attended.extend(out);
                }
                add(&mut x[i], &matvec(w("self_attn.o_proj"), &attended));
                let normed = self.norm(&x[i], w("post_attention_layernorm"));
                let gate = matvec(w("mlp.gate_proj"), &normed);
                let up = matvec(w("mlp.up_proj"), &normed);
                let act: Vec<f64> =
                    gate.iter().zip(&up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
                add(&mut x[i], &matvec(w("mlp.down_proj"), &act));
            }
        }
        let last = self.norm(x.last().unwrap(), w("model.norm.weight"));
        let head = if self.tied { embedding } else { w("lm_head.weight") };
        assert_eq!(head.len(), self.vocab * self.hidden);
        matvec(head, &last).into_iter().map(|v| v as f32).collect()
    }

    /// Softmax weights of all keys; 0 for what is not seen.
    fn attention(
        &self,
        q: &[f64],
        k: &[Vec<f64>],
        head: usize,
        group: usize,
        sees: &dyn Fn(usize) -> bool,
    ) -> Vec<f64> {
        let d = self.head_dim;
        let q = &q[head * d..][..d];
        let mut weights = vec![0.0; k.len()];
        for j in (0..k.len()).filter(|j| sees(*j)) {
            let score: f64 = q.iter().zip(&k[j][group * d..][..d]).map(|(a, b)| a * b).sum();
            weights[j] = (score / (d as f64).sqrt()).exp();
        }
        let total: f64 = weights.iter().sum();
        weights.into_iter().map(|weight| weight / total).collect()
    }

    fn norm(&self, x: &[f64], weight: &[f64]) -> Vec<f64> {
        let mean = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
        x.iter().zip(weight).map(|(v, w)| v / (mean + self.eps).sqrt() * w).collect()
    }

    fn rotate(&self, head: &mut [f64], position: usize) {
        let half = head.len() / 2;
        for i in 0..half {
            let angle = position as f64 * self.theta.powf(-(i as f64) / half as f64);
            let (a, b) = (head[i], head[i + half]);
            head[i] = a * angle.cos() - b * angle.sin();
            head[i + half] = b * angle.cos() + a * angle.sin();
        }
    }
}

fn matvec(w: &[f64], x: &[f64]) -> Vec<f64> {
    w.chunks(x.len()).map(|row| row.iter().zip(x).map(|(a, b)| a * b).sum()).collect()
}

fn add(x: &mut [f64], y: &[f64]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}
