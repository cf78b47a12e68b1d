use proptest::prelude::*;

use super::*;

fn canonical(text: &str) -> String {
    text.parse::<Quantity>().unwrap().to_string()
}

#[test]
fn canonical_form() {
    for (text, wanted) in [
        ("0", "0"),
        ("0Ki", "0"),
        ("1", "1"),
        ("100m", "100m"),
        ("0.1", "100m"),
        (".5", "500m"),
        ("5.", "5"),
        ("1000m", "1"),
        ("1500m", "1500m"),
        ("1.5", "1500m"),
        ("1000", "1k"),
        ("1024", "1024"),
        ("1024Ki", "1Mi"),
        ("1536Mi", "1536Mi"),
        ("1.5Gi", "1536Mi"),
        ("0.5Ki", "512"),
        ("1000Ki", "1000Ki"),
        ("0.5Mi", "512Ki"),
        ("1.1Ki", "1126400m"),
        ("128974848", "128974848"),
        ("129e6", "129e6"),
        ("129E6", "129e6"),
        ("1e3", "1e3"),
        ("1000e0", "1e3"),
        ("12e2", "1200"),
        ("1e-3", "1e-3"),
        ("129M", "129M"),
        ("123Mi", "123Mi"),
        ("1E", "1E"),
        ("1Ei", "1Ei"),
        ("-250m", "-250m"),
        ("+3", "3"),
        ("1n", "1n"),
        ("0.1n", "1n"),
        ("1.0000000001", "1000000001n"),
        ("100Ei", "9223372036854775807"),
        ("-1.5Gi", "-1536Mi"),
    ] {
        assert_eq!(canonical(text), wanted, "{text}");
    }
}

#[test]
fn nonsense_is_refused() {
    for text in [
        "", ".", "-", "1.2.3", "1i", "1KI", "1mi", "Ki", "1e", "1e+", "1 Ki", " 1", "0x10", "1e1.5", "--1",
        "1µ",
    ] {
        assert!(text.parse::<Quantity>().is_err(), "{text:?}");
    }
}

#[test]
fn values_round_away_from_zero() {
    let q = |text: &str| text.parse::<Quantity>().unwrap();
    assert_eq!((q("1.1").value(), q("1.1").milli_value()), (2, 1100));
    assert_eq!((q("-1.1").value(), q("100u").milli_value()), (-2, 1));
    assert_eq!(q("64Mi").value(), 64 << 20);
    assert_eq!(q("9e30").value(), i64::MAX);
}

#[test]
fn the_downward_api_divides_and_rounds_up() {
    let q = |text: &str| text.parse::<Quantity>().unwrap();
    assert_eq!(q("250m").divided_by(q("1")), 1);
    assert_eq!(q("250m").divided_by(q("1m")), 250);
    assert_eq!(q("64Mi").divided_by(q("1Mi")), 64);
    assert_eq!(q("65M").divided_by(q("1Mi")), 62);
    assert_eq!(q("1200m").divided_by(q("0")), 2);
}

#[test]
fn a_sum_keeps_the_first_format() {
    let q = |text: &str| text.parse::<Quantity>().unwrap();
    assert_eq!((q("64Mi") + q("1Mi")).to_string(), "65Mi");
    assert_eq!((Quantity::ZERO + q("1Mi")).to_string(), "1Mi");
    assert_eq!((q("1") - q("250m")).to_string(), "750m");
    assert!(q("1") > q("999m"));
}

fn format() -> impl Strategy<Value = Format> {
    prop_oneof![
        Just(Format::DecimalSi),
        Just(Format::BinarySi),
        Just(Format::DecimalExponent)
    ]
}

proptest! {
    #[test]
    fn printing_keeps_the_amount(nanos in -MAX..=MAX, format in format()) {
        let quantity = Quantity { nanos, format };
        let again: Quantity = quantity.to_string().parse().unwrap();
        prop_assert_eq!(again.nanos, nanos);
        prop_assert_eq!(again.to_string().parse::<Quantity>().unwrap().to_string(), again.to_string());
    }

    #[test]
    fn any_text_parses_or_fails(text in "[-+0-9.eEinumkKMGTPi]{0,40}|.{0,12}") {
        let _ = text.parse::<Quantity>();
    }
}
