//! Whether a request looks signed: presence and form of a Signature Version 4, its time and its scope.
//!
//! The signature's value is not computed: the endpoint has no secrets, and the SDK signs with tested code.
//! Source: AWS IAM user guide, "Elements of an AWS API request signature".

use axum::http::{HeaderMap, header::AUTHORIZATION};

use super::answer::Refusal;
use crate::{reading::Timestamp, units::format_utc};

/// How long before or after the service's time a signature may be made, in milliseconds.
const TOLERATED: i64 = 300_000;

/// The access key that signed. Refuses as the service does what is not signed for `service` in `region`, or at another time than `now`.
pub fn check<'a>(headers: &'a HeaderMap, service: &str, region: &str, now: Timestamp) -> Result<&'a str, Refusal> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let missing = || Refusal::bad("MissingAuthenticationTokenException", "Missing Authentication Token");
    let incomplete = |what: String| Refusal::bad("IncompleteSignatureException", what);

    let authorization = text(AUTHORIZATION.as_str()).ok_or_else(missing)?;
    let fields = authorization.strip_prefix("AWS4-HMAC-SHA256 ").ok_or_else(missing)?;
    let field = |name: &str| {
        let value = fields.split(',').find_map(|field| field.trim().strip_prefix(name)?.strip_prefix('='));
        value.ok_or_else(|| incomplete(format!("Authorization header requires '{name}' parameter.")))
    };
    let (credential, signed, signature) = (field("Credential")?, field("SignedHeaders")?, field("Signature")?);

    if signature.len() != 64 || !signature.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(incomplete(format!("Signature is not 64 hexadecimal digits: '{signature}'.")));
    }
    for header in ["host", "x-amz-date"] {
        if !signed.split(';').any(|name| name == header) {
            return Err(Refusal::bad("InvalidSignatureException", format!("'{header}' must be a 'SignedHeader'.")));
        }
    }
    let date = text("x-amz-date").filter(|date| is_basic_iso_8601(date));
    let date = date.ok_or_else(|| incomplete("Authorization header requires existence of 'X-Amz-Date'.".into()))?;

    let mut scope = credential.rsplitn(5, '/');
    let scope = (scope.next(), scope.next(), scope.next(), scope.next(), scope.next());
    let (Some("aws4_request"), Some(scope_service), Some(scope_region), Some(day), Some(key)) = scope else {
        return Err(incomplete(format!("Credential must be KEY/DATE/REGION/SERVICE/aws4_request, not '{credential}'.")));
    };
    let wrong_scope = |what: String| Err(Refusal::bad("InvalidSignatureException", what));
    if key.is_empty() || scope_service != service {
        return wrong_scope(format!("Credential should be scoped to correct service: '{service}', not '{scope_service}'."));
    }
    if scope_region != region {
        return wrong_scope(format!("Credential should be scoped to a valid region, not '{scope_region}'."));
    }
    if !date.starts_with(day) || day.len() != 8 {
        return wrong_scope(format!("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date: {day}."));
    }
    let basic = |time: Timestamp| format_utc(time).replace(['-', ':'], "");
    let (earliest, latest) = (basic(Timestamp(now.0 - TOLERATED)), basic(Timestamp(now.0 + TOLERATED)));
    // Of times in this form the order of letters is that of time.
    if date < earliest.as_str() {
        return wrong_scope(format!("Signature expired: {date} is now earlier than {earliest} ({} - 5 min.)", basic(now)));
    }
    if date > latest.as_str() {
        return wrong_scope(format!("Signature not yet current: {date} is still later than {latest} ({} + 5 min.)", basic(now)));
    }
    Ok(key)
}

fn is_basic_iso_8601(date: &str) -> bool {
    let form = |(place, byte): (usize, u8)| match place {
        8 => byte == b'T',
        15 => byte == b'Z',
        _ => byte.is_ascii_digit(),
    };
    date.len() == 16 && date.bytes().enumerate().all(form)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(authorization: &str, date: &str) -> Result<(), &'static str> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, authorization.parse().unwrap());
        headers.insert("x-amz-date", date.parse().unwrap());
        // 2026-11-21T12:04:00Z
        check(&headers, "kinesis", "eu-west-1", Timestamp(1_795_262_640_000))
            .map(|key| assert_eq!(key, "AKID"))
            .map_err(|refusal| refusal.code)
    }

    fn signed_for(scope: &str, headers: &str) -> String {
        let signature = "0f".repeat(32);
        format!("AWS4-HMAC-SHA256 Credential=AKID/{scope}/aws4_request, SignedHeaders={headers}, Signature={signature}")
    }

    #[test]
    fn only_a_request_signed_for_kinesis_in_this_region_on_this_day_is_let_in() {
        let date = "20261121T120000Z";
        let headers = "content-type;host;x-amz-date";

        assert_eq!(code(&signed_for("20261121/eu-west-1/kinesis", headers), date), Ok(()));
        assert_eq!(code(&signed_for("20261121/vpce/kinesis", headers), date), Err("InvalidSignatureException"));
        assert_eq!(code(&signed_for("20261121/eu-west-1/firehose", headers), date), Err("InvalidSignatureException"));
        assert_eq!(code(&signed_for("20261120/eu-west-1/kinesis", headers), date), Err("InvalidSignatureException"));
        assert_eq!(code(&signed_for("20261121/eu-west-1/kinesis", "host"), date), Err("InvalidSignatureException"));
        assert_eq!(code(&signed_for("20261121/eu-west-1/kinesis", headers), "today"), Err("IncompleteSignatureException"));
        assert_eq!(code(&signed_for("20261121/eu-west-1/kinesis", headers), "20261121T115859Z"), Err("InvalidSignatureException"));
        assert_eq!(code(&signed_for("20261121/eu-west-1/kinesis", headers), "20261121T120901Z"), Err("InvalidSignatureException"));
        assert_eq!(code("Bearer x", date), Err("MissingAuthenticationTokenException"));
        assert_eq!(code("AWS4-HMAC-SHA256 Credential=a", date), Err("IncompleteSignatureException"));
    }
}
