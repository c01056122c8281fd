//! Serves an API: validated JSON, bearer tokens, pages, changes that depend on a version, and tests that need no
//! sockets (`cargo test --example api`).
//!
//! ```sh
//! cargo run --example api
//! alias write='curl -i --oauth2-bearer sesame --json'     # a curl of 7.82 or later
//! write '{"title":"buy milk"}' http://127.0.0.1:8080/tasks
//! curl -i http://127.0.0.1:8080/tasks/1
//! curl -i 'http://127.0.0.1:8080/tasks?done=false&limit=10'
//! write '{"done":true}' -X PATCH -H 'If-Match: "0000000000000001"' http://127.0.0.1:8080/tasks/1
//! curl -i --oauth2-bearer sesame -X DELETE http://127.0.0.1:8080/tasks/1
//! ```

#![allow(clippy::std_instead_of_alloc, reason = "a program for systems that have std")]

use core::convert::Infallible;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lightcone::http::{
    BearerAuth, ETag, Http, JsonError, Limits, Owned, Reply, Response, Routes, State, Status, TokenError,
    is_same_secret,
};
use lightcone::{Builder, Error, Handler};
use serde::{Deserialize, Serialize};

/// The maximum size of a request's body in bytes.
const BODY_MAX: usize = 4 << 10;

/// The maximum length of a title in characters.
const TITLE_MAX: usize = 80;

/// The maximum number of tasks in a list, and how many there are if the client does not say.
const PAGE_MAX: usize = 100;

/// The maximum number of tasks that are kept.
const TASKS_MAX: usize = 10_000;

#[derive(Clone, Serialize)]
struct Task {
    id: u64,
    title: String,
    done: bool,
    #[serde(skip)]
    version: u64,
}

/// The body of a request that adds a task. A field that is not known is a mistake, which the response names.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewTask {
    title: String,
}

/// The body of a request that changes a task: the fields that are to change.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    title: Option<String>,
    done: Option<bool>,
}

/// A list of tasks, and where the next one begins.
#[derive(Serialize)]
struct Page<'t> {
    tasks: &'t [Task],
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

#[derive(Default)]
struct Tasks {
    by_id: BTreeMap<u64, Task>,
    last_id: u64,
}

/// The state of each poller's server. The pollers share the tasks; a lock that is held for one look at a map is cheap.
/// What takes longer, such as a query of a database, belongs on workers.
#[derive(Clone, Default)]
struct Api {
    tasks: Arc<Mutex<Tasks>>,
}

impl State for Api {
    type Message = Infallible;
}

impl Api {
    fn tasks(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn task(&self, id: u64) -> Option<Task> {
        self.tasks().by_id.get(&id).cloned()
    }

    /// Adds a task, unless there are too many.
    fn add(&self, title: String) -> Option<Task> {
        let tasks = &mut *self.tasks();
        if tasks.by_id.len() >= TASKS_MAX {
            return None;
        }
        tasks.last_id += 1;
        let task = Task { id: tasks.last_id, title, done: false, version: 1 };
        tasks.by_id.insert(task.id, task.clone());
        Some(task)
    }

    /// Changes a task that still has this version.
    fn change(&self, id: u64, version: u64, change: Change) -> Option<Task> {
        let tasks = &mut *self.tasks();
        let task = tasks.by_id.get_mut(&id).filter(|task| task.version == version)?;
        task.title = change.title.unwrap_or_else(|| core::mem::take(&mut task.title));
        task.done = change.done.unwrap_or(task.done);
        task.version += 1;
        Some(task.clone())
    }

    /// Deletes a task that still has this version. Returns whether it had.
    fn delete(&self, id: u64, version: u64) -> bool {
        let by_id = &mut self.tasks().by_id;
        by_id.get(&id).is_some_and(|task| task.version == version) && by_id.remove(&id).is_some()
    }

    /// Returns at most `limit` tasks after `after`, and whether there are more.
    fn list(&self, done: Option<bool>, after: u64, limit: usize) -> (Vec<Task>, bool) {
        let tasks = self.tasks();
        let all = tasks.by_id.range(after.saturating_add(1)..).map(|(_, task)| task);
        let mut wanted = all.filter(|task| done.is_none_or(|done| task.done == done));
        let page = wanted.by_ref().take(limit).cloned().collect();
        (page, wanted.next().is_some())
    }
}

/// Checks what the type of a field cannot express.
fn check_title(title: &str) -> Result<(), JsonError> {
    match title.chars().count() {
        0 => Err(JsonError::unacceptable("title", "empty")),
        length if length > TITLE_MAX => Err(JsonError::unacceptable(
            "title",
            format_args!("{length} characters, at most {TITLE_MAX} are allowed"),
        )),
        _ => Ok(()),
    }
}

/// Returns the routes that anyone may call.
fn reading() -> Http<Api, impl Routes<Api>, ()> {
    Http::<Api, _, _>::group()
        .get("/", |request, response| {
            let query =
                (request.parse_query("done"), request.parse_query("after"), request.parse_query("limit"));
            let (done, after, limit) = match query {
                (Ok(done), Ok(after), Ok(limit)) => (done, after.unwrap_or(0), limit.unwrap_or(PAGE_MAX)),
                (Err(error), _, _) => return response.bad_parameter(&error).into_any(),
                (_, Err(error), _) | (_, _, Err(error)) => return response.bad_parameter(&error).into_any(),
            };
            let (tasks, more) = request.state.list(done, after, limit.clamp(1, PAGE_MAX));
            let next = tasks.last().filter(|_| more).map(|last| {
                let done = done.map_or_else(String::new, |done| format!("done={done}&"));
                format!("/tasks?{done}after={}&limit={limit}", last.id)
            });
            response.serialize_json(&Page { tasks: &tasks, next })
        })
        .get("/{id}", |request, response| {
            let task = match request.parse_param("id").map(|id| request.state.task(id)) {
                Ok(Some(task)) => task,
                Ok(None) => return response.refuse(Status::NOT_FOUND).into_any(),
                Err(error) => return response.bad_parameter(&error).into_any(),
            };
            // A client that has this version already gets a 304 without a body.
            request.conditional(response, ETag::number(task.version), |_request, response| {
                response.serialize_json(&task)
            })
        })
}

/// Returns the routes for those who have the token.
fn writing(token: &'static str) -> Http<Api, impl Routes<Api>, ()> {
    Http::<Api, _, _>::group()
        .post("/", |request, response| {
            request.parse_json(BODY_MAX, response, |api: &mut Api, NewTask { title }, response| {
                if let Err(error) = check_title(&title) {
                    return response.bad_json(&error).into_any();
                }
                let Some(task) = api.add(title) else {
                    return response.refuse(507).into_any();
                };
                let response = response.status(Status::CREATED).header("ETag", ETag::number(task.version));
                response.header("Location", format_args!("/tasks/{}", task.id)).serialize_json(&task)
            })
        })
        .patch("/{id}", |request, response| {
            let task = match request.parse_param("id").map(|id| request.state.task(id)) {
                Ok(Some(task)) => task,
                Ok(None) => return response.refuse(Status::NOT_FOUND).into_any(),
                Err(error) => return response.bad_parameter(&error).into_any(),
            };
            if request.header("if-match").is_none() {
                // Two clients that change the same task must not undo each other's change unknowingly (RFC 6585, 3).
                return response.refuse(Status::PRECONDITION_REQUIRED).into_any();
            }
            let (id, version) = (task.id, task.version);
            request.conditional(response, ETag::number(version), |request, response| {
                request.parse_json(BODY_MAX, response, move |api: &mut Api, change, response| {
                    respond_to_change(api, id, version, change, response)
                })
            })
        })
        .delete("/{id}", |request, response| {
            let (id, task) = match request.parse_param("id").map(|id| (id, request.state.task(id))) {
                Ok((id, Some(task))) => (id, task),
                Ok((_, None)) => return response.refuse(Status::NOT_FOUND),
                Err(error) => return response.bad_parameter(&error),
            };
            // With `If-Match`, only the version that the client has seen is deleted.
            request.conditional(response, ETag::number(task.version), |request, response| {
                if request.state.delete(id, task.version) {
                    response.status(Status::NO_CONTENT).empty()
                } else {
                    response.refuse(Status::PRECONDITION_FAILED) // changed by another poller just now
                }
            })
        })
        .wrap(BearerAuth::new("tasks", move |_api: &mut Api, given: &str| {
            if is_same_secret(given.as_bytes(), token.as_bytes()) { Ok(()) } else { Err(TokenError::Invalid) }
        }))
}

/// Changes a task that had this version when the head of the request came.
fn respond_to_change(
    api: &Api,
    id: u64,
    version: u64,
    change: Change,
    response: Response<'_>,
) -> Reply<Owned> {
    if let Some(Err(error)) = change.title.as_deref().map(check_title) {
        return response.bad_json(&error).into_any();
    }
    // The body came after the head: another client may have changed the task in between.
    let Some(task) = api.change(id, version, change) else {
        return response.refuse(Status::PRECONDITION_FAILED).into_any();
    };
    response.header("ETag", ETag::number(task.version)).serialize_json(&task)
}

fn server(api: Api, token: &'static str) -> impl Handler<Message: Send> {
    let limits = Limits { body: BODY_MAX as u64, ..Limits::DEFAULT };
    Http::with(api).limits(limits).nest("/tasks", reading().merge(writing(token)))
}

fn main() -> Result<(), Error> {
    let api = Api::default();
    let engine = Builder::new().start(move |_poller| server(api.clone(), "sesame"))?;
    engine.listen("127.0.0.1:8080")?;
    engine.join();
    Ok(())
}

#[cfg(test)]
mod tests {
    use lightcone::http::testing::{TestRequest, TestResponse, TestServer};

    use super::*;

    fn write(method: &str, target: &str, body: &str) -> TestRequest {
        let request = TestRequest::new(method, target).header("Authorization", "Bearer key");
        request.header("Content-Type", "application/json").body(body)
    }

    /// The tag of the first version of a task.
    const FIRST: &str = "\"0000000000000001\"";

    fn outcome(response: &TestResponse) -> (u16, &str) {
        (response.status(), response.text())
    }

    #[test]
    fn a_task_from_its_beginning_to_its_end() {
        let mut server = TestServer::new(server(Api::default(), "key"));
        let added = server.request(write("POST", "/tasks", r#"{"title":"buy milk"}"#));
        assert_eq!(outcome(&added), (201, r#"{"id":1,"title":"buy milk","done":false}"#));
        assert_eq!((added.header("Location"), added.header("ETag")), (Some("/tasks/1"), Some(FIRST)));
        assert_eq!(server.get("/tasks/1").text(), added.text());
        let known = server.request(TestRequest::get("/tasks/1").header("If-None-Match", FIRST));
        assert_eq!(outcome(&known), (304, ""));

        let change = r#"{"done":true}"#;
        assert_eq!(server.request(write("PATCH", "/tasks/1", change)).status(), 428);
        let changed = server.request(write("PATCH", "/tasks/1", change).header("If-Match", FIRST));
        assert_eq!(outcome(&changed), (200, r#"{"id":1,"title":"buy milk","done":true}"#));
        let late = server.request(write("PATCH", "/tasks/1", change).header("If-Match", FIRST));
        assert_eq!(late.status(), 412);

        assert_eq!(server.request(write("DELETE", "/tasks/1", "").header("If-Match", FIRST)).status(), 412);
        assert_eq!(server.request(write("DELETE", "/tasks/1", "")).status(), 204);
        assert_eq!(server.get("/tasks/1").status(), 404);
    }

    #[test]
    fn of_two_changes_at_once_one_is_refused() {
        let mut server = TestServer::new(server(Api::default(), "key"));
        server.request(write("POST", "/tasks", r#"{"title":"buy milk"}"#));
        let head = format!(
            "PATCH /tasks/1 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer key\r\nIf-Match: {FIRST}\r\n\
            Content-Type: application/json\r\nContent-Length: 13\r\n\r\n"
        );
        let (first, second) = (server.connect(), server.connect());
        server.send(first, head.as_bytes());
        server.send(second, head.as_bytes());
        server.send(second, br#"{"done":true}"#);
        server.send(first, br#"{"done":true}"#);
        let statuses = [first, second].map(|connection| server.response(connection).map(|it| it.status()));
        assert_eq!(statuses, [Some(412), Some(200)]);
    }

    #[test]
    fn a_list_has_pages() {
        let api = Api::default();
        let titles = ["a", "b", "c", "d"];
        assert_eq!(titles.map(|title| api.add(title.into()).map(|task| task.id)), [1, 2, 3, 4].map(Some));
        assert!(api.change(2, 1, Change { title: None, done: Some(true) }).is_some());
        let mut server = TestServer::new(server(api, "key"));
        assert_eq!(
            server.get("/tasks?done=false&limit=2").text(),
            concat!(
                r#"{"tasks":[{"id":1,"title":"a","done":false},{"id":3,"title":"c","done":false}],"#,
                r#""next":"/tasks?done=false&after=3&limit=2"}"#
            )
        );
        assert_eq!(
            server.get("/tasks?done=false&after=3&limit=2").text(),
            r#"{"tasks":[{"id":4,"title":"d","done":false}]}"#
        );
        assert_eq!(server.get("/tasks?limit=many").status(), 400);
    }

    #[test]
    fn mistakes_are_named() {
        let mut server = TestServer::new(server(Api::default(), "key"));
        let long = format!(r#"{{"title":"{}"}}"#, "x".repeat(81));
        let table = [
            (r#"{"title":""}"#, "invalid JSON at title: empty\n"),
            (&long, "invalid JSON at title: 81 characters, at most 80 are allowed\n"),
            (
                r#"{"title":7}"#,
                "invalid JSON at title, line 1, column 10: invalid type: integer `7`, expected a string\n",
            ),
            ("{}", "invalid JSON at line 1, column 2: missing field `title`\n"),
            (
                r#"{"title":"a","colour":1}"#,
                "invalid JSON at colour, line 1, column 21: unknown field `colour`, expected `title`\n",
            ),
        ];
        for (body, text) in table {
            assert_eq!(outcome(&server.request(write("POST", "/tasks", body))), (400, text));
        }
        assert_eq!(server.get("/tasks/first").status(), 400);
        assert_eq!(server.request(write("POST", "/tasks", &" ".repeat(BODY_MAX + 1))).status(), 413);
    }

    #[test]
    fn only_those_with_the_token_write() {
        let mut server = TestServer::new(server(Api::default(), "key"));
        let anonymous = server.request(TestRequest::new("POST", "/tasks").body("{}"));
        assert_eq!(
            (anonymous.status(), anonymous.header("WWW-Authenticate")),
            (401, Some("Bearer realm=\"tasks\""))
        );
        let wrong = TestRequest::new("DELETE", "/tasks/1").header("Authorization", "Bearer lock");
        assert_eq!(server.request(wrong).status(), 401);
        assert_eq!(server.get("/tasks").text(), r#"{"tasks":[]}"#);
    }
}
