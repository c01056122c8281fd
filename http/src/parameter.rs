//! Parameters of paths and queries as values.

use core::fmt;
use core::str::FromStr;

use crate::query::DecodeError;

/// The maximum length in bytes of the decoded text of a parameter that is parsed.
const TEXT_MAX: usize = 128;

/// The reason why a parameter has no value, returned by [`Request::parse_param`](crate::Request::parse_param) and
/// [`Request::parse_query`](crate::Request::parse_query). `E` is the error of the value's type.
///
/// [`Response::bad_parameter`](crate::Response::bad_parameter) sends the response to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ParameterError<E> {
    name: &'static str,
    cause: ParameterCause<E>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum ParameterCause<E> {
    Missing,
    Encoding(DecodeError),
    Value(E),
}

impl<E> ParameterError<E> {
    /// Creates the error for a required parameter that is missing.
    ///
    /// ```
    /// use core::num::ParseIntError;
    /// use lightcone_http::ParameterError;
    ///
    /// let error = ParameterError::<ParseIntError>::missing("page");
    /// assert_eq!(error.to_string(), "the parameter page is missing");
    /// ```
    pub const fn missing(name: &'static str) -> Self {
        Self { name, cause: ParameterCause::Missing }
    }

    /// Returns the name of the parameter.
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

impl<E: fmt::Display> fmt::Display for ParameterError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the parameter {} is ", self.name)?;
        match &self.cause {
            ParameterCause::Missing => f.write_str("missing"),
            ParameterCause::Encoding(error) => write!(f, "invalid: {error}"),
            ParameterCause::Value(error) => write!(f, "invalid: {error}"),
        }
    }
}

/// There is no source, because `Display` contains the text of the cause.
impl<E: fmt::Debug + fmt::Display> core::error::Error for ParameterError<E> {}

/// A function that decodes a text into a buffer.
type Decode = for<'b> fn(&[u8], &'b mut [u8]) -> Result<&'b str, DecodeError>;

/// Decodes and parses the value of a parameter.
pub(crate) fn parse<T: FromStr>(
    name: &'static str,
    text: &str,
    decode: Decode,
) -> Result<T, ParameterError<T::Err>> {
    let mut buffer = [0; TEXT_MAX];
    let text = decode(text.as_bytes(), &mut buffer)
        .map_err(|error| ParameterError { name, cause: ParameterCause::Encoding(error) })?;
    text.parse().map_err(|error| ParameterError { name, cause: ParameterCause::Value(error) })
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::format;
    use std::string::String;

    use super::*;
    use crate::Http;
    use crate::testing::TestServer;

    fn answer(target: &str) -> (u16, String) {
        let mut server = TestServer::new(
            Http::new()
                .get("/param/{value}", |request, response| match request.parse_param::<u8>("value") {
                    Ok(value) => response.display(value),
                    Err(error) => response.bad_parameter(&error),
                })
                .get("/char/{value}", |request, response| match request.parse_param::<char>("value") {
                    Ok(value) => response.display(value),
                    Err(error) => response.bad_parameter(&error),
                })
                .get("/length", |request, response| match request.parse_query::<String>("text") {
                    Ok(text) => response.display(format_args!("{:?}", text.map(|text| text.len()))),
                    Err(error) => response.bad_parameter(&error),
                })
                .get("/required", |request, response| {
                    let value = request.parse_query::<i32>("value");
                    match value.and_then(|value| value.ok_or(ParameterError::missing("value"))) {
                        Ok(value) => response.display(value),
                        Err(error) => response.bad_parameter(&error),
                    }
                }),
        );
        let response = server.get(target);
        (response.status(), response.text().into())
    }

    #[test]
    fn values_are_decoded_and_parsed() {
        let table = [
            ("/param/255", 200, "255"),
            ("/param/%32%35", 200, "25"),
            ("/param/256", 400, "the parameter value is invalid: number too large to fit in target type\n"),
            // a request that is malformed does not reach its handler
            ("/param/%zz", 400, "400 Bad Request\n"),
            ("/length?text=%4", 400, "400 Bad Request\n"),
            ("/param/%ff", 400, "the parameter value is invalid: the decoded bytes are not UTF-8\n"),
            // a plus is a space only in queries
            ("/char/+", 200, "+"),
            ("/length?text=a+%2B", 200, "Some(3)"),
            ("/length?text=", 200, "Some(0)"),
            ("/length?other=1", 200, "None"),
            ("/length", 200, "None"),
            ("/required?value=-7", 200, "-7"),
            (
                "/required?value=",
                400,
                "the parameter value is invalid: cannot parse integer from empty string\n",
            ),
            ("/required", 400, "the parameter value is missing\n"),
        ];
        for (target, status, text) in table {
            assert_eq!(answer(target), (status, text.into()), "{target}");
        }
    }

    #[test]
    fn the_length_of_a_text_is_limited() {
        let longest = "%61".repeat(TEXT_MAX);
        assert_eq!(answer(&format!("/length?text={longest}")), (200, "Some(128)".into()));
        let (status, text) = answer(&format!("/length?text={longest}a"));
        assert_eq!(
            (status, text.as_str()),
            (400, "the parameter text is invalid: the decoded text is longer than its buffer\n")
        );
    }
}
