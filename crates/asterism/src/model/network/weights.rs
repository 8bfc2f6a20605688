//! The weights of one layer, packed for the compute backend: names and shapes as in Hugging Face
//! checkpoints of the Llama, Mistral, Qwen2 and Qwen3 families.

use crate::model::{Checkpoint, LoadError, ModelConfig};
use crate::tensor::{Backend, Elements, ElementsView, Precision};

/// One decoder layer. Matrices that read the same input are stacked into one.
pub(super) struct LayerWeights<B: Backend> {
    /// `[hidden]`
    pub(super) input_norm: B::Vector,
    /// `[(heads + 2 kv_heads) * head_dim, hidden]`: q, k, v
    pub(super) qkv: B::Matrix,
    /// `[(heads + 2 kv_heads) * head_dim]`
    pub(super) qkv_bias: Option<B::Vector>,
    /// `[head_dim]` each: q and k
    pub(super) qk_norms: Option<(B::Vector, B::Vector)>,
    /// `[hidden, heads * head_dim]`
    pub(super) output: B::Matrix,
    /// `[hidden]`
    pub(super) output_bias: Option<B::Vector>,
    /// `[hidden]`
    pub(super) mlp_norm: B::Vector,
    /// `[intermediate, hidden]` twice: gate and up, as a pair
    pub(super) gate_up: B::Matrix,
    /// `[2 * intermediate]`
    pub(super) gate_up_bias: Option<B::Vector>,
    /// `[hidden, intermediate]`
    pub(super) down: B::Matrix,
    /// `[hidden]`
    pub(super) down_bias: Option<B::Vector>,
}

/// Reads matrices and vectors of a checkpoint in the precision of the session.
pub(super) struct Loader<'a, B> {
    pub(super) backend: &'a B,
    pub(super) checkpoint: &'a Checkpoint,
    pub(super) precision: Precision,
}

impl<B: Backend> Loader<'_, B> {
    /// One vector, as f32.
    pub(super) fn vector(&self, name: &str, len: usize) -> Result<B::Vector, LoadError> {
        self.vectors(&[(name, len)])
    }

    /// Matrices `[outputs, inputs]`, stacked along the outputs.
    pub(super) fn matrix(
        &self,
        parts: &[(&str, usize)],
        inputs: usize,
    ) -> Result<B::Matrix, LoadError> {
        let rows = self.parts(parts, inputs)?;
        Ok(self.backend.matrix(&rows.iter().map(all).collect::<Vec<_>>(), inputs)?)
    }

    /// Two matrices `[outputs, inputs]` as a pair.
    fn pair(
        &self,
        gate: &str,
        up: &str,
        outputs: usize,
        inputs: usize,
    ) -> Result<B::Matrix, LoadError> {
        let rows = self.parts(&[(gate, outputs), (up, outputs)], inputs)?;
        Ok(self.backend.pair(all(&rows[0]), all(&rows[1]), inputs)?)
    }

    fn parts(&self, parts: &[(&str, usize)], inputs: usize) -> Result<Vec<Elements>, LoadError> {
        let read = |(name, outputs): &(&str, usize)| {
            let tensor = self.checkpoint.tensor(name, &[*outputs, inputs])?;
            tensor.check_varied(name)?;
            Ok(tensor.to_elements(self.precision))
        };
        parts.iter().map(read).collect()
    }

    /// Vectors one after the other.
    fn vectors(&self, parts: &[(&str, usize)]) -> Result<B::Vector, LoadError> {
        let mut all = Vec::new();
        for (name, len) in parts {
            all.extend(self.checkpoint.tensor(name, &[*len])?.to_f32());
        }
        Ok(self.backend.vector(&all)?)
    }

    /// Layer `index`.
    pub(super) fn layer(
        &self,
        c: &ModelConfig,
        index: usize,
    ) -> Result<LayerWeights<B>, LoadError> {
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
                    Ok::<_, LoadError>((
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

fn all(elements: &Elements) -> ElementsView<'_> {
    elements.view(0..elements.len())
}
