//! The sources, each put together of its files.

/// A source that is compiled as one module.
#[derive(Debug, Clone, Copy)]
pub(in crate::cuda) struct Source {
    /// What messages call it.
    pub(in crate::cuda) name: &'static str,
    parts: &'static [&'static str],
}

impl Source {
    /// The text.
    pub(in crate::cuda) fn text(self) -> String {
        self.parts.concat()
    }
}

/// Row by row; merges; appends.
pub(in crate::cuda) const ROWS: Source = Source {
    name: "rows.cu",
    parts: &[
        include_str!("common.cuh"),
        include_str!("sequences.cuh"),
        include_str!("rows.cu"),
        include_str!("merge.cu"),
        include_str!("put.cu"),
        include_str!("gather.cu"),
        include_str!("argmax.cu"),
        include_str!("sample.cu"),
        include_str!("append.cu"),
        include_str!("fp8.cu"),
    ],
};

/// Products of few rows.
pub(in crate::cuda) const GEMV: Source =
    Source { name: "gemv.cu", parts: &[include_str!("common.cuh"), include_str!("gemv.cu")] };

pub(super) const ATTENTION: Source = Source {
    name: "attend.cu",
    parts: &[
        include_str!("common.cuh"),
        include_str!("sequences.cuh"),
        include_str!("attend.cuh"),
        include_str!("copies.cuh"),
        include_str!("tiles.cuh"),
        include_str!("mma.cuh"),
        include_str!("attend.cu"),
    ],
};

pub(super) const ATTENTION_HOPPER: Source = Source {
    name: "attend_hopper.cu",
    parts: &[
        include_str!("common.cuh"),
        include_str!("sequences.cuh"),
        include_str!("attend.cuh"),
        include_str!("copies.cuh"),
        include_str!("tiles.cuh"),
        include_str!("attend_hopper.cu"),
    ],
};

/// Both over some tiles of keys, with the macro `SPARSE`.
pub(super) const ATTENTION_SPARSE: Source = Source {
    name: "attend.cu, sparse",
    parts: &[
        include_str!("common.cuh"),
        include_str!("sequences.cuh"),
        include_str!("mask.cuh"),
        include_str!("attend.cuh"),
        include_str!("copies.cuh"),
        include_str!("tiles.cuh"),
        include_str!("mma.cuh"),
        include_str!("attend.cu"),
    ],
};

pub(super) const ATTENTION_SPARSE_HOPPER: Source = Source {
    name: "attend_hopper.cu, sparse",
    parts: &[
        include_str!("common.cuh"),
        include_str!("sequences.cuh"),
        include_str!("mask.cuh"),
        include_str!("attend.cuh"),
        include_str!("copies.cuh"),
        include_str!("tiles.cuh"),
        include_str!("attend_hopper.cu"),
    ],
};

/// The twin of block-sparse attention; its macros are `HEAD_DIM`, of any size, and `SPARSE`.
#[cfg(test)]
pub(in crate::cuda) const ATTENTION_SPARSE_NAIVE: Source = Source {
    name: "attend_tiles_naive.cu",
    parts: &[
        include_str!("common.cuh"),
        include_str!("sequences.cuh"),
        include_str!("mask.cuh"),
        include_str!("attend.cuh"),
        include_str!("attend_tiles_naive.cu"),
    ],
};

/// Softmax weight per key and distance.
pub(in crate::cuda) const LINES: Source = Source {
    name: "lines.cu",
    parts: &[
        include_str!("common.cuh"),
        include_str!("copies.cuh"),
        include_str!("mma.cuh"),
        include_str!("lines.cu"),
    ],
};

/// Weights of tiles, beside the products.
pub(in crate::cuda) const COARSE: Source =
    Source { name: "coarse.cu", parts: &[include_str!("common.cuh"), include_str!("coarse.cu")] };

/// What queries and keys are like.
pub(in crate::cuda) const STATISTICS: Source = Source {
    name: "statistics.cu",
    parts: &[include_str!("common.cuh"), include_str!("statistics.cu")],
};

/// The readable twin of attention over all keys; its macro is `HEAD_DIM`, of any size.
#[cfg(test)]
pub(in crate::cuda) const ATTENTION_NAIVE: Source = Source {
    name: "attend_naive.cu",
    parts: &[
        include_str!("common.cuh"),
        include_str!("sequences.cuh"),
        include_str!("attend.cuh"),
        include_str!("attend_naive.cu"),
    ],
};

/// Softmax weight per key.
pub(in crate::cuda) const MASS: Source = Source {
    name: "mass.cu",
    parts: &[
        include_str!("common.cuh"),
        include_str!("sequences.cuh"),
        include_str!("attend.cuh"),
        include_str!("copies.cuh"),
        include_str!("tiles.cuh"),
        include_str!("mma.cuh"),
        include_str!("mass.cu"),
    ],
};

/// Its twin.
#[cfg(test)]
pub(in crate::cuda) const MASS_NAIVE: Source = Source {
    name: "mass_naive.cu",
    parts: &[include_str!("common.cuh"), include_str!("mass_naive.cu")],
};
