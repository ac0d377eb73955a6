//! What every page has around its content: the base template, the macros, the style sheet, and the
//! rules by which templates are read.

#![forbid(unsafe_code)]

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment as Templates, Value, context};

use crate::error::{Error, Result};
use crate::report::charts;

/// Fills a page's template, which extends "base" and may use "macros". `page` holds what the template
/// asks for, and for the base: `title`, `subtitle`, `tool`. Every string is escaped.
///
/// # Errors
/// The template is not well-formed, which tests would have found.
pub(in crate::report) fn fill(template: &str, page: Value) -> Result<String> {
    let failed = |error: minijinja::Error| {
        Error::Failed(format!("cannot fill the page's template: {error:#}"))
    };
    let mut templates = Templates::new();
    templates.set_auto_escape_callback(|_| AutoEscape::Html);
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()
        .map_err(failed)?;
    templates.set_syntax(syntax);
    let parts = [
        ("macros", include_str!("../macros.html")),
        ("base", include_str!("../base.html")),
        ("page", template),
    ];
    for (name, source) in parts {
        templates.add_template(name, source).map_err(failed)?;
    }
    // Charts are recoloured in the dark by rules of their own.
    let page = context! {
        style => Value::from_safe_string(include_str!("../style.css").to_owned()),
        dark_rules => Value::from_safe_string(charts::dark_rules(".chart ")),
        ..page
    };
    templates
        .get_template("page")
        .and_then(|template| template.render(page))
        .map_err(failed)
}
