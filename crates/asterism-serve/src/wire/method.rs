//! How a request wants contexts to be encoded.

use super::Body;
use crate::error::{ApiError, ApiResult};
use asterism::plan::words::{self, MethodName};
use asterism::plan::{HeadBudget, Method, PlanSpec, Press, PressBy, Revisit, Sparse, Star};
use serde::Serialize;
use serde_json::Value;

/// Hosts of one request at most: each is a thread and has buffers of its own.
const MOST_HOSTS: usize = 64;

/// The fields of a request that say how a context is encoded; the server's own settings where they
/// are missing.
#[derive(Debug, Clone, Default, utoipa::ToSchema)]
pub(crate) struct MethodFields {
    /// star, ring, zigzag or dense; or a pattern that leaves keys out, with its settings, such as
    /// `flexprefill:gamma=0.9`: streaming, minference, flexprefill, xattention or blocks.
    pub(crate) method: Option<String>,
    /// Tokens of a block (star).
    #[schema(minimum = 16)]
    pub(crate) block: Option<usize>,
    /// Tokens of the anchor (star); at most the block.
    pub(crate) anchor: Option<usize>,
    /// Tokens of the context that are computed anew for every question (star): a number, a share
    /// such as "5%", "auto" or "none".
    pub(crate) revisit: Option<Value>,
    /// A pattern that leaves keys out within blocks (star), with its settings, such as
    /// `xattention:stride=16`; "none" for none.
    pub(crate) sparse: Option<String>,
    /// Keys and values that are kept of each block (star, or dense on one host): a share such as
    /// "50%".
    pub(crate) keep: Option<String>,
    /// By which score they are found: kvzip, expected, compactor, snapkv, streaming, knorm or
    /// random.
    pub(crate) press: Option<String>,
    /// Whether every head keeps as many, "even", or a layer the best of all its heads, "layer".
    pub(crate) press_heads: Option<String>,
    /// Hosts that share the work.
    #[schema(minimum = 1, maximum = 64)]
    pub(crate) hosts: Option<usize>,
}

impl MethodFields {
    pub(crate) fn take(body: &mut Body) -> ApiResult<Self> {
        Ok(Self {
            method: body.take("method")?,
            block: body.take("block")?,
            anchor: body.take("anchor")?,
            revisit: body.take("revisit")?,
            sparse: body.take("sparse")?,
            keep: body.take("keep")?,
            press: body.take("press")?,
            press_heads: body.take("press_heads")?,
            hosts: body.take("hosts")?,
        })
    }

    /// Whether the request leaves everything to the server.
    pub(crate) fn is_empty(&self) -> bool {
        self.method.is_none()
            && self.block.is_none()
            && self.anchor.is_none()
            && self.hosts.is_none()
            && self.sparse.is_none()
            && self.keep.is_none()
            && self.press.is_none()
            && self.press_heads.is_none()
    }

    /// The method asked for, where `default` fills in what was not said.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub(crate) fn spec(&self, default: PlanSpec) -> ApiResult<PlanSpec> {
        let hosts = self.hosts.unwrap_or(default.hosts);
        if !(1..=MOST_HOSTS).contains(&hosts) {
            let message = format!("hosts is {hosts}: it must be from 1 to {MOST_HOSTS}");
            return Err(ApiError::param("hosts", message));
        }
        let name = self.method.as_deref().unwrap_or(default.method.name());
        let named = MethodName::parse(name).map_err(|error| wrong("method", name, &error))?;
        let method = match named {
            MethodName::Star => self.star(default.method)?.into(),
            _ if name == default.method.name() => default.method,
            other => other.with(Star::new(0)),
        };
        let stars = [
            ("block", self.block.is_some()),
            ("anchor", self.anchor.is_some()),
            ("revisit", self.revisit()?.is_some_and(|revisit| revisit != Revisit::None)),
            ("sparse", self.sparse()?.flatten().is_some()),
        ];
        if let Some((field, _)) =
            stars.iter().find(|(_, given)| *given && named != MethodName::Star)
        {
            let message = format!("{field} is a setting of star, and the method is {name}");
            return Err(ApiError::param(field, message));
        }
        let spec = PlanSpec::from(method).hosts(hosts);
        Ok(spec.press(self.pressed(default.press, &spec)?))
    }

    /// What keys are pressed to: as asked for, or as `default` has it where the method can be.
    fn pressed(&self, default: Option<Press>, spec: &PlanSpec) -> ApiResult<Option<Press>> {
        let can_be = match spec.method {
            Method::Star(_) => true,
            Method::Dense => spec.hosts == 1,
            Method::Ring | Method::Zigzag | Method::Sparse(_) => false,
        };
        let given = [
            ("keep", self.keep.is_some()),
            ("press", self.press.is_some()),
            ("press_heads", self.press_heads.is_some()),
        ];
        let Some((field, _)) = given.iter().find(|(_, given)| *given) else {
            return Ok(default.filter(|_| can_be));
        };
        if !can_be {
            let message = format!(
                "{field} is a setting of star, and of dense on one host: the method is {} on {} \
                 host(s)",
                spec.method, spec.hosts
            );
            return Err(ApiError::param(field, message));
        }
        let mut press = default.unwrap_or(Press::new(Press::ALL));
        if let Some(keep) = &self.keep {
            press.keep = words::keep(keep).map_err(|error| wrong("keep", keep, &error))?;
        }
        if let Some(name) = &self.press {
            press.by = named("press", &PressBy::ALL, PressBy::name, name)?;
        }
        if let Some(name) = &self.press_heads {
            press.heads = named("press_heads", &HeadBudget::ALL, HeadBudget::name, name)?;
        }
        Ok((press.keep < Press::ALL).then_some(press))
    }

    fn star(&self, default: Method) -> ApiResult<Star> {
        let given = default.as_star();
        let block = self.block.or(given.map(|star| star.block)).unwrap_or(4096);
        if block < asterism::plan::MIN_BLOCK {
            let least = asterism::plan::MIN_BLOCK;
            let message = format!("block is {block}: it must be at least {least}");
            return Err(ApiError::param("block", message));
        }
        let anchor = self.anchor.or(given.map(|star| star.anchor.min(block))).unwrap_or(block / 4);
        if anchor > block {
            let message = format!("anchor is {anchor}: it must be at most the block, {block}");
            return Err(ApiError::param("anchor", message));
        }
        let star = match given {
            Some(star) => Star { block, anchor, ..star },
            None => Star::new(block).anchor(anchor),
        };
        let (revisit, sparse) = (self.revisit()?, self.sparse()?);
        Ok(star.revisit(revisit.unwrap_or(star.revisit)).sparse(sparse.unwrap_or(star.sparse)))
    }

    /// The pattern within blocks, or none, if the request says so.
    fn sparse(&self) -> ApiResult<Option<Option<Sparse>>> {
        match self.sparse.as_deref() {
            None => Ok(None),
            Some("none") => Ok(Some(None)),
            Some(text) => pattern("sparse", text).map(|sparse| Some(Some(sparse))),
        }
    }

    /// What is to be computed anew, if the request says so.
    ///
    /// # Errors
    /// If it says something else than a number, a share or a name.
    pub(crate) fn revisit(&self) -> ApiResult<Option<Revisit>> {
        self.revisit.as_ref().filter(|value| !value.is_null()).map(revisit).transpose()
    }
}

/// A pattern that leaves keys out.
fn pattern(field: &'static str, text: &str) -> ApiResult<Sparse> {
    Sparse::parse(text).map_err(|error| wrong(field, text, &error))
}

/// The one of `all` that has the name `value`.
fn named<T: Copy>(
    field: &'static str,
    all: &[T],
    name: fn(T) -> &'static str,
    value: &str,
) -> ApiResult<T> {
    words::named(all, name, value).map_err(|error| wrong(field, value, &error))
}

fn revisit(value: &Value) -> ApiResult<Revisit> {
    let text = match value {
        Value::String(text) => text.clone(),
        number => number.to_string(),
    };
    words::revisit(&text).map_err(|error| wrong("revisit", &text, &error))
}

/// What is the matter with the value of `field`.
fn wrong(field: &'static str, value: &str, why: &str) -> ApiError {
    ApiError::param(field, format!("{field} is {value:?}: {why}"))
}

/// As a request would say it.
fn describe_revisit(revisit: Revisit) -> Value {
    match revisit {
        Revisit::None => "none".into(),
        Revisit::Auto => "auto".into(),
        Revisit::Tokens(tokens) => tokens.into(),
        Revisit::Share(hundredths) => format!("{}%", f64::from(hundredths) / 100.0).into(),
    }
}

/// How a context is encoded, for people and programs.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub(crate) struct MethodInfo {
    /// star, ring, zigzag, dense, or a pattern with its settings.
    method: String,
    /// Tokens of a block (star).
    block: Option<usize>,
    /// Tokens of the anchor (star).
    anchor: Option<usize>,
    /// As a request for it has it.
    #[schema(value_type = Option<String>)]
    revisit: Value,
    /// The pattern within blocks (star).
    sparse: Option<String>,
    /// Keys and values that are kept; all if it is missing.
    keep: Option<String>,
    /// By which score they are found.
    press: Option<&'static str>,
    /// How they are shared out over heads.
    press_heads: Option<&'static str>,
    hosts: usize,
}

impl From<PlanSpec> for MethodInfo {
    fn from(PlanSpec { method, hosts, press }: PlanSpec) -> Self {
        let star = method.as_star();
        Self {
            method: match method {
                Method::Sparse(sparse) => sparse.to_string(),
                method => method.name().to_owned(),
            },
            block: star.map(|star| star.block),
            anchor: star.map(|star| star.anchor),
            revisit: describe_revisit(star.map_or(Revisit::None, |star| star.revisit)),
            sparse: star.and_then(|star| star.sparse).map(|sparse| sparse.to_string()),
            keep: press.map(|press| format!("{}%", f64::from(press.keep) / 100.0)),
            press: press.map(|press| press.by.name()),
            press_heads: press.map(|press| press.heads.name()),
            hosts,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(fields: Value) -> Result<PlanSpec, String> {
        let mut body = Body::read(fields.to_string().as_bytes()).unwrap();
        let fields = MethodFields::take(&mut body).unwrap();
        let default = Star::new(4096).anchor(1024).hosts(2);
        fields.spec(default).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn what_is_not_said_is_as_the_server_has_it() {
        let star = |fields| spec(fields).unwrap().method.as_star().unwrap();
        assert_eq!(spec(json!({})).unwrap().hosts, 2);
        assert_eq!(star(json!({})), Star::new(4096).anchor(1024));
        assert_eq!(star(json!({"block": 512})), Star::new(512).anchor(512));
        let revisit = star(json!({"anchor": 64, "revisit": "2.5%"}));
        assert_eq!(revisit, Star::new(4096).anchor(64).revisit(Revisit::Share(250)));
        assert_eq!(
            spec(json!({"method": "dense", "revisit": "none"})).unwrap().method,
            Method::Dense
        );
        let sparse = |name: &str| star(json!({"sparse": name})).sparse;
        assert_eq!(sparse("xattention:stride=16"), Sparse::parse("xattention:stride=16").ok());
        assert_eq!(sparse("none"), None);
        let press = |fields| spec(fields).unwrap().press;
        assert_eq!(press(json!({"keep": "100%"})), None);
        assert_eq!(press(json!({"keep": "12.5%"})), Some(Press::new(1250)));
        let given = json!({"keep": "50%", "press": "snapkv", "press_heads": "layer"});
        let expected = Press::new(5000).by(PressBy::SnapKv).heads(HeadBudget::Layer);
        assert_eq!(press(given), Some(expected));
    }

    #[test]
    fn impossible_settings_name_their_field() {
        for (fields, field) in [
            (json!({"method": "flash"}), "method"),
            (json!({"block": 4}), "block"),
            (json!({"block": 512, "anchor": 513}), "anchor"),
            (json!({"revisit": "all"}), "revisit"),
            (json!({"revisit": -1}), "revisit"),
            (json!({"revisit": "101%"}), "revisit"),
            (json!({"method": "dense", "block": 512}), "block"),
            (json!({"method": "ring", "revisit": 5}), "revisit"),
            (json!({"method": "dense", "sparse": "xattention"}), "sparse"),
            (json!({"sparse": "quest"}), "sparse"),
            (json!({"method": "xattention:stride=3"}), "method"),
            (json!({"hosts": 0}), "hosts"),
            (json!({"keep": "0%"}), "keep"),
            (json!({"keep": "half"}), "keep"),
            (json!({"keep": "50%", "press": "h2o"}), "press"),
            (json!({"keep": "50%", "press_heads": "all"}), "press_heads"),
            (json!({"method": "ring", "keep": "50%"}), "keep"),
            (json!({"method": "dense", "keep": "50%"}), "keep"),
        ] {
            let error = spec(fields.clone()).unwrap_err();
            assert!(error.contains(field), "{fields}: {error}");
        }
    }

    #[test]
    fn what_is_revisited_is_described_as_it_is_asked_for() {
        for revisit in [Revisit::None, Revisit::Auto, Revisit::Tokens(7), Revisit::Share(250)] {
            assert_eq!(super::revisit(&describe_revisit(revisit)).unwrap(), revisit);
        }
    }
}
