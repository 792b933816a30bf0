//! Lists: sorted by a field, cut into pages, and with some of their fields only, as RabbitMQ's API does it.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use serde_json::{Map, Value as Json, json};
use warren_core::topology::Pattern;

use super::answer::Failure;
use super::call::Query;
use crate::limits::{COLUMNS, PAGE_ITEMS};

/// Items of a page if nobody says how many.
const PAGE_SIZE: usize = 100;

/// How the query wants a list.
#[derive(Debug)]
pub(super) struct Listing<'q> {
    /// Fields to sort by; a dot leads into an object.
    sort: Option<&'q str>,
    reverse: bool,
    page: Option<Page>,
}

#[derive(Debug)]
struct Page {
    /// From 1 on.
    number: usize,
    size: usize,
    filter: Filter,
}

/// Which names are on the pages.
#[derive(Debug)]
enum Filter {
    /// Those that contain this, whatever the case of their letters; it is in lower case here.
    Contains(String),
    Matches(Pattern),
}

impl<'q> Listing<'q> {
    /// Reads `sort` and `sort_reverse`.
    pub(super) fn whole(query: &'q Query) -> Self {
        Self { sort: query.get("sort").filter(|key| !key.is_empty()), reverse: query.flag("sort_reverse"), page: None }
    }

    /// Reads `sort`, `sort_reverse`, `page`, `page_size`, `name` and `use_regex`.
    pub(super) fn of(query: &'q Query) -> Result<Self, Failure> {
        let page = query.get("page").map(|number| Page::of(number, query)).transpose()?;
        Ok(Self { page, ..Self::whole(query) })
    }

    /// What the list is sorted by, if that is not the name.
    pub(super) fn sorts_by(&self) -> Option<&'q str> {
        self.sort.filter(|key| *key != "name")
    }

    /// The list, or the page of it. Without `sort` the order is that of the names, which is how items come.
    pub(super) fn apply(&self, mut items: Vec<Json>) -> Result<Json, Failure> {
        let total = items.len();
        if let Some(page) = &self.page {
            items.retain(|item| page.filter.takes(item.get("name").and_then(Json::as_str).unwrap_or_default()));
        }
        if let Some(key) = self.sort {
            items.sort_by(|one, other| compare(field(one, key), field(other, key)));
        }
        if self.reverse {
            items.reverse();
        }
        match &self.page {
            None => Ok(Json::Array(items)),
            Some(page) => page.cut(items, total),
        }
    }
}

impl Page {
    fn of(number: &str, query: &Query) -> Result<Self, Failure> {
        let size = query.get("page_size").unwrap_or_default();
        let refused =
            |reason: String| Failure::new(axum::http::StatusCode::BAD_REQUEST, "invalid_pagination_parameters", reason);
        let integers = (number.parse(), if size.is_empty() { Ok(PAGE_SIZE) } else { size.parse() });
        let (Ok(number), Ok(size)) = integers else {
            return Err(Failure::bad_request(
                "Pagination parameters are invalid: page and page_size are whole numbers",
            ));
        };
        if number == 0 || !(1..=PAGE_ITEMS).contains(&size) {
            let text = format!(
                "Invalid pagination parameters: page number {number}, page size {size}; pages are counted from 1 and have \
                 at most {PAGE_ITEMS} items"
            );
            return Err(refused(text));
        }
        let name = query.get("name").unwrap_or_default();
        let filter = if query.flag("use_regex") {
            let pattern = Pattern::of_policy(name);
            Filter::Matches(pattern.map_err(|error| Failure::bad_request(format!("name is no pattern: {error}")))?)
        } else {
            Filter::Contains(name.to_lowercase())
        };
        Ok(Self { number, size, filter })
    }

    fn cut(&self, items: Vec<Json>, total: usize) -> Result<Json, Failure> {
        let (filtered, pages) = (items.len(), items.len().div_ceil(self.size));
        if self.number > pages.max(1) {
            let reason = format!("page out of range, page: {} page size: {}, len: {filtered}", self.number, self.size);
            return Err(Failure::new(axum::http::StatusCode::BAD_REQUEST, "page_out_of_range", reason));
        }
        let items: Vec<_> = items.into_iter().skip((self.number - 1) * self.size).take(self.size).collect();
        Ok(json!({
            "filtered_count": filtered,
            "item_count": items.len(),
            "items": items,
            "page": self.number,
            "page_count": pages,
            "page_size": self.size,
            "total_count": total,
        }))
    }
}

impl Filter {
    fn takes(&self, name: &str) -> bool {
        match self {
            Self::Contains(part) => part.is_empty() || name.to_lowercase().contains(part.as_str()),
            Self::Matches(pattern) => pattern.matches(name),
        }
    }
}

/// The field of that name, with dots through the objects that it is in.
pub(super) fn field<'j>(item: &'j Json, key: &str) -> Option<&'j Json> {
    match item.get(key) {
        Some(value) => Some(value),
        None => key.split('.').try_fold(item, |object, name| object.get(name)),
    }
}

/// What is not there comes first, then numbers, then text.
fn compare(one: Option<&Json>, other: Option<&Json>) -> Ordering {
    match (one, other) {
        (Some(Json::Number(one)), Some(Json::Number(other))) => {
            one.as_f64().unwrap_or_default().total_cmp(&other.as_f64().unwrap_or_default())
        }
        (Some(Json::String(one)), Some(Json::String(other))) => one.cmp(other),
        (Some(Json::Bool(one)), Some(Json::Bool(other))) => one.cmp(other),
        _ => rank(one).cmp(&rank(other)),
    }
}

fn rank(value: Option<&Json>) -> u8 {
    match value {
        None | Some(Json::Null) => 0,
        Some(Json::Bool(_)) => 1,
        Some(Json::Number(_)) => 2,
        Some(Json::String(_)) => 3,
        Some(Json::Array(_) | Json::Object(_)) => 4,
    }
}

/// The fields that `columns` names.
#[derive(Debug)]
pub(super) struct Columns(Vec<Column>);

#[derive(Debug)]
struct Column {
    name: String,
    /// The names of the objects that it is in, then its own.
    path: Vec<String>,
}

impl Columns {
    /// Reads names with commas between them; a dot leads into an object.
    ///
    /// # Errors
    /// 400 for more of them than [`COLUMNS`].
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        let names: BTreeSet<_> = text.split(',').map(str::trim).collect();
        if names.len() > COLUMNS {
            return Err(Failure::bad_request(format!("{} columns are more than {COLUMNS}", names.len())));
        }
        let column = |name: &str| Column { name: name.to_owned(), path: name.split('.').map(str::to_owned).collect() };
        Ok(Self(names.into_iter().map(column).collect()))
    }

    /// These fields; there are few.
    pub(super) fn of_names(names: &[&str]) -> Self {
        let column =
            |name: &&str| Column { name: (*name).to_owned(), path: name.split('.').map(str::to_owned).collect() };
        Self(names.iter().map(column).collect())
    }

    /// Leaves of an answer these fields: of an object, of each object of a list, of each item of a page.
    pub(super) fn of_answer(&self, answer: Json) -> Json {
        match answer {
            Json::Array(items) => items.iter().map(|item| self.of(item)).collect(),
            Json::Object(mut page) if page.contains_key("items") && page.contains_key("page_count") => {
                if let Some(Json::Array(items)) = page.get_mut("items") {
                    items.iter_mut().for_each(|item| *item = self.of(item));
                }
                Json::Object(page)
            }
            item @ Json::Object(_) => self.of(&item),
            other => other,
        }
    }

    /// Leaves of an object these fields.
    pub(super) fn of(&self, item: &Json) -> Json {
        let mut out = Map::new();
        for Column { name, path } in &self.0 {
            if let Some(value) = item.get(name) {
                out.insert(name.clone(), value.clone());
            } else if let Some(value) = path.iter().try_fold(item, |object, name| object.get(name)) {
                put(&mut out, path, value);
            }
        }
        Json::Object(out)
    }
}

/// Puts a value where the path leads, through objects that are made on the way.
fn put(out: &mut Map<String, Json>, path: &[String], value: &Json) {
    match path {
        [] => {}
        [name] => {
            out.insert(name.clone(), value.clone());
        }
        [name, rest @ ..] => {
            let next = out.entry(name.clone()).or_insert_with(|| Json::Object(Map::new()));
            if let Json::Object(next) = next {
                put(next, rest, value);
            }
        }
    }
}
