//! The weights of one layer, packed for the compute backend: names and shapes as in Hugging Face
//! checkpoints of the Llama, Mistral, Qwen2 and Qwen3 families.

use super::{Checkpoint, ModelConfig, ModelError, TensorView};
use crate::tensor::{Cpu, PackedMatrix, Precision};

/// One decoder layer. Matrices that read the same input are stacked into one.
pub(super) struct LayerWeights {
    /// `[hidden]`
    pub(super) input_norm: Vec<f32>,
    /// `[(heads + 2 kv_heads) * head_dim, hidden]`: q, k, v
    pub(super) qkv: PackedMatrix,
    /// `[(heads + 2 kv_heads) * head_dim]`
    pub(super) qkv_bias: Option<Vec<f32>>,
    /// `[head_dim]` each: q and k
    pub(super) qk_norms: Option<(Vec<f32>, Vec<f32>)>,
    /// `[hidden, heads * head_dim]`
    pub(super) output: PackedMatrix,
    /// `[hidden]`
    pub(super) output_bias: Option<Vec<f32>>,
    /// `[hidden]`
    pub(super) mlp_norm: Vec<f32>,
    /// `[intermediate, hidden]` twice: gate and up, as a pair
    pub(super) gate_up: PackedMatrix,
    /// `[2 * intermediate]`
    pub(super) gate_up_bias: Option<Vec<f32>>,
    /// `[hidden, intermediate]`
    pub(super) down: PackedMatrix,
    /// `[hidden]`
    pub(super) down_bias: Option<Vec<f32>>,
}

/// Reads matrices and vectors of a checkpoint in the precision of the session.
pub(super) struct Loader<'a> {
    pub(super) cpu: &'a Cpu,
    pub(super) checkpoint: &'a Checkpoint,
    pub(super) precision: Precision,
}

impl Loader<'_> {
    /// One vector, as f32.
    pub(super) fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>, ModelError> {
        Ok(self.checkpoint.tensor(name, &[len])?.to_f32())
    }

    /// Matrices `[outputs, inputs]`, stacked along the outputs.
    pub(super) fn matrix(
        &self,
        parts: &[(&str, usize)],
        inputs: usize,
    ) -> Result<PackedMatrix, ModelError> {
        Ok(match self.precision {
            Precision::Bf16 => {
                let rows = self.parts(parts, inputs, |view| view.to_bf16())?;
                self.cpu.pack_bf16(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>(), inputs)
            }
            Precision::F32 => {
                let rows = self.parts(parts, inputs, |view| view.to_f32())?;
                self.cpu.pack_f32(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>(), inputs)
            }
        })
    }

    /// Two matrices `[outputs, inputs]` as a pair.
    fn pair(
        &self,
        gate: &str,
        up: &str,
        outputs: usize,
        inputs: usize,
    ) -> Result<PackedMatrix, ModelError> {
        let parts = [(gate, outputs), (up, outputs)];
        Ok(match self.precision {
            Precision::Bf16 => {
                let rows = self.parts(&parts, inputs, |view| view.to_bf16())?;
                self.cpu.pack_bf16_pair(&rows[0], &rows[1], inputs)
            }
            Precision::F32 => {
                let rows = self.parts(&parts, inputs, |view| view.to_f32())?;
                self.cpu.pack_f32_pair(&rows[0], &rows[1], inputs)
            }
        })
    }

    fn parts<T>(
        &self,
        parts: &[(&str, usize)],
        inputs: usize,
        convert: impl Fn(&TensorView<'_>) -> Vec<T>,
    ) -> Result<Vec<Vec<T>>, ModelError> {
        let view = |(name, outputs): &(&str, usize)| {
            Ok(convert(&self.checkpoint.tensor(name, &[*outputs, inputs])?))
        };
        parts.iter().map(view).collect()
    }

    /// Vectors one after the other.
    fn vectors(&self, parts: &[(&str, usize)]) -> Result<Vec<f32>, ModelError> {
        let mut all = Vec::new();
        for (name, len) in parts {
            all.extend(self.vector(name, *len)?);
        }
        Ok(all)
    }

    /// Layer `index`.
    pub(super) fn layer(&self, c: &ModelConfig, index: usize) -> Result<LayerWeights, ModelError> {
        let name = |suffix: &str| format!("model.layers.{index}.{suffix}");
        let (q, kv) = (c.heads * c.head_dim, c.kv_heads * c.head_dim);
        let part = |suffix: &'static str, len| (name(suffix), len);
        let weights = |parts: &[(String, usize)], inputs| {
            let parts: Vec<_> = parts.iter().map(|(n, len)| (n.as_str(), *len)).collect();
            self.matrix(&parts, inputs)
        };
        let biases = |present: bool, parts: &[(String, usize)]| {
            let parts: Vec<_> = parts.iter().map(|(n, len)| (n.as_str(), *len)).collect();
            present.then(|| self.vectors(&parts)).transpose()
        };
        let qkv = [
            part("self_attn.q_proj.weight", q),
            part("self_attn.k_proj.weight", kv),
            part("self_attn.v_proj.weight", kv),
        ];
        let qkv_bias = [
            part("self_attn.q_proj.bias", q),
            part("self_attn.k_proj.bias", kv),
            part("self_attn.v_proj.bias", kv),
        ];
        let (gate, up) = (name("mlp.gate_proj.weight"), name("mlp.up_proj.weight"));
        let gate_up_bias =
            [part("mlp.gate_proj.bias", c.intermediate), part("mlp.up_proj.bias", c.intermediate)];
        let norm = |suffix: &'static str| self.vector(&name(suffix), c.head_dim);
        Ok(LayerWeights {
            input_norm: self.vector(&name("input_layernorm.weight"), c.hidden)?,
            qkv: weights(&qkv, c.hidden)?,
            qkv_bias: biases(c.qkv_bias, &qkv_bias)?,
            qk_norms: c
                .qk_norm
                .then(|| {
                    Ok::<_, ModelError>((
                        norm("self_attn.q_norm.weight")?,
                        norm("self_attn.k_norm.weight")?,
                    ))
                })
                .transpose()?,
            output: weights(&[part("self_attn.o_proj.weight", c.hidden)], q)?,
            output_bias: biases(c.o_bias, &[part("self_attn.o_proj.bias", c.hidden)])?,
            mlp_norm: self.vector(&name("post_attention_layernorm.weight"), c.hidden)?,
            gate_up: self.pair(&gate, &up, c.intermediate, c.hidden)?,
            gate_up_bias: biases(c.mlp_bias, &gate_up_bias)?,
            down: weights(&[part("mlp.down_proj.weight", c.hidden)], c.intermediate)?,
            down_bias: biases(c.mlp_bias, &[part("mlp.down_proj.bias", c.hidden)])?,
        })
    }
}
