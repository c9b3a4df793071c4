from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rows import rows
from tts_provider.speech import normalize as english
from tts_provider.speech.mapped_text import MappedText


def normalize(text: str) -> str:
    return english.normalize(MappedText(text)).string


PHONE = "five five five, one two three, four five six seven"

NUMBERS = [
    ("1,234", "one thousand two hundred thirty-four"),
    ("0", "zero"),
    ("100,000,000 people", "one hundred million people"),
    ("3.14", "three point one four"),
    (".5", "point five"),
    ("-5 degrees", "minus five degrees"),
    ("−3", "minus three"),
    ("-5-10", "minus five to ten"),
    ("It's 5.", "It's five."),
    ('"5"', '"five"'),
    ("1,2,3", "one, two, three"),
    ("007", "zero zero seven"),
    ("id 1234567", "id one two three four five six seven"),
    ("1000000", "one million"),
    ("1" * 40, " ".join(["one"] * 40)),
    ("1.2.3", "one point two point three"),
    ("v1.2", "version one point two"),
    ("192.168.0.1", "one nine two dot one six eight dot zero dot one"),
    ("1st, 22nd and 1,000th", "first, twenty-second and one thousandth"),
    ("B2B and H2O", "B two B and H two O"),
    ("COVID-19", "Covid nineteen"),
    ("a 5-year-old", "a five year-old"),
    ("1920x1080", "one thousand nine hundred twenty by one thousand eighty"),
    ("3x faster", "three times faster"),
    ("Louis XIV", "Louis the fourteenth"),
]
FRACTIONS_AND_RANGES = [
    ("1/2", "one half"),
    ("3/4", "three quarters"),
    ("2/3", "two thirds"),
    ("2½ cups", "two and a half cups"),
    ("5 1/2 ft", "five and a half feet"),
    ("120/80", "one hundred twenty over eighty"),
    ("24/7", "twenty-four seven"),
    ("50/50", "fifty fifty"),
    ("5-10", "five to ten"),
    ("5–10 km", "five to ten kilometers"),
    ("pages 5 - 10", "pages five to ten"),
    ("10 - 5 = 5", "ten minus five equals five"),
    ("1914-1918", "nineteen fourteen to nineteen eighteen"),
    ("1990-95", "nineteen ninety to ninety-five"),
    ("10:30 - 11:30", "ten thirty to eleven thirty"),
    ("3pm-5pm", "three P M to five P M"),
    ("a ratio of 3:1", "a ratio of three to one"),
    (
        "ISBN 978-3-16-148410-0",
        "ISBN nine seven eight, three, one six, one four eight four one zero, zero",
    ),
]
YEARS_DATES_TIMES = [
    ("in 1999", "in nineteen ninety-nine"),
    ("2024", "twenty twenty-four"),
    ("2000 people", "two thousand people"),
    ("1984 people", "one thousand nine hundred eighty-four people"),
    ("in 1905 and 2005", "in nineteen oh five and two thousand five"),
    ("in 1066", "in ten sixty-six"),
    ("1234 apples", "one thousand two hundred thirty-four apples"),
    ("the 1990s and the 80s", "the nineteen nineties and the eighties"),
    ("a 30s timeout", "a thirty seconds timeout"),
    ("2024-03-05", "March fifth, twenty twenty-four"),
    ("3/5/2024", "March fifth, twenty twenty-four"),
    ("13/5/24", "May thirteenth, twenty twenty-four"),
    ("March 5, 2024", "March fifth, twenty twenty-four"),
    ("Jan. 5-7", "January fifth to seventh"),
    ("5 March 2024", "the fifth of March twenty twenty-four"),
    ("March 2024", "March twenty twenty-four"),
    ("2024-03-05T14:00:00Z", "March fifth, twenty twenty-four at fourteen hundred Z"),
    ("10:30", "ten thirty"),
    ("9:05 am", "nine oh five A M"),
    ("at 9:05 a.m. Then", "at nine oh five A M. Then"),
    ("at 5 p.m. sharp", "at five P M sharp"),
    ("10:00", "ten o'clock"),
    ("14:00", "fourteen hundred"),
    ("14:05", "fourteen oh five"),
    ("23:59:01", "twenty-three hours, fifty-nine minutes and one second"),
]
MONEY_AND_UNITS = [
    ("$5", "five dollars"),
    ("$1", "one dollar"),
    ("-$5", "minus five dollars"),
    ("$3.50", "three dollars and fifty cents"),
    ("$0.01", "one cent"),
    ("$3.00", "three dollars"),
    ("£1.50", "one pound and fifty pence"),
    ("20 €", "twenty euros"),
    ("¥500", "five hundred yen"),
    ("$1.2 million", "one point two million dollars"),
    ("€5bn", "five billion euros"),
    ("$5/month", "five dollars per month"),
    ("$5-$10", "five dollars to ten dollars"),
    ("50%", "fifty percent"),
    ("3.5 % or 5-10%", "three point five percent or five to ten percent"),
    ("5 km, 10kg, 3 ft", "five kilometers, ten kilograms, three feet"),
    ("1 km", "one kilometer"),
    ("20°C", "twenty degrees Celsius"),
    ("60 mph", "sixty miles per hour"),
    ("90 km/h", "ninety kilometers per hour"),
    ("5GB in 100 ms", "five gigabytes in one hundred milliseconds"),
    ("5 m²", "five square meters"),
    ("5 min. later", "five minutes later"),
    ("5'10\"", "five foot ten"),
    ("5 in the box", "five in the box"),
]
WORDS_AND_SYMBOLS = [
    (
        "Dr. Smith, Mr. Jones, Mrs. Hill, Ms Po",
        "Doctor Smith, Mister Jones, Misses Hill, Miz Po",
    ),
    ("Prof. X", "Professor X"),
    ("Main St. in St. Louis", "Main Street in Saint Louis"),
    ("pears, etc. Then", "pears, et cetera. Then"),
    ("pears, etc., and", "pears, et cetera, and"),
    ("e.g., this (i.e. that)", "for example, this, that is that"),
    ("us vs. them", "us versus them"),
    ("No. 5", "number five"),
    ("No. He left.", "No. He left."),
    ("approx. 7", "approximately seven"),
    ("Q&A", "Q and A"),
    ("2 + 2 = 4", "two plus two equals four"),
    ("x < y", "x less than y"),
    ("5 >= 3", "five greater than or equal to three"),
    ("3 × 4 * 5", "three times four times five"),
    ("~50", "about fifty"),
    ("#5 and #go", "number five and hashtag go"),
    ("C# and C++", "C sharp and C plus plus"),
    ("10^6", "ten to the power of six"),
    ("and/or", "and or"),
    ("https://example.com/a/b", "example dot com slash A slash b"),
    ("(see https://www.example.com/).", "see example dot com."),
    ("info@example.com", "info at example dot com"),
    ("Node.js", "Node dot js"),
    ("Call 555-123-4567", f"Call {PHONE}"),
    ("(555) 123-4567", PHONE),
    ("+1 555 123 4567", f"plus one, {PHONE}"),
    ("555-1234", "five five five, one two three four"),
]
TEXT_AND_MARKUP = [
    ("", ""),
    ("...", ""),
    ("Ordinary text, well-known; it's fine!", "Ordinary text, well-known; it's fine!"),
    ("Café naïve Grüße 你好，世界 مرحبا नमस्ते", "Café naïve Grüße 你好，世界 مرحبا नमस्ते"),
    ("a clause,", "a clause,"),
    ("**bold** _it_ `code` snake_case", "bold it code snake case"),
    ("Louis (the king) ruled", "Louis, the king, ruled"),
    ("(He did.) Then", "He did. Then"),
    ("file(s)", "files"),
    ("Hi 👩‍🚀 there ❤️", "Hi there"),
    ("Hello :)", "Hello"),
    ("“Quoted” ‘x’", "\"Quoted\" 'x'"),
    ('"Hello," (he said)', '"Hello," he said'),
    ("What?! No!!!", "What? No!"),
    ("wait… what", "wait, what"),
    ("Wait... What", "Wait. What"),
    ("yes — no – maybe - so", "yes, no, maybe, so"),
    ("one \t two\u00a0 c", "one two c"),
    ("one\ntwo", "one two"),
]
# One kind after the other, each with the readings that docs/text.md chooses.
DATES_AND_TIMES = [
    ("january 1", "January first"),
    ("SEPT. 15", "September fifteenth"),
    ("25 jul 2012", "the twenty-fifth of July twenty twelve"),
    ("on the 26th May", "on the twenty-sixth of May"),
    ("you may 5 times", "you may five times"),
    ("Jan-15-2020", "January fifteenth, twenty twenty"),
    ("15.01.2020", "the fifteenth of January twenty twenty"),
    ("15-01-2020", "the fifteenth of January twenty twenty"),
    ("2024-W05", "week five of twenty twenty-four"),
    ("July 1506", "July fifteen oh six"),
    ("1155", "eleven fifty-five"),
    ("340 A.D. and 50 BC", "three forty AD and fifty BC"),
    ("in 2Q22", "in the second quarter of twenty twenty-two"),
    ("the Q3'23", "the third quarter of twenty twenty-three"),
    ("mid-80s, '90s, 1960s-80s", "mid-eighties, nineties, nineteen sixties to eighties"),
    ("5pm EST", "five P M E S T"),
    ("1:59 p.m. e.s.t", "one fifty-nine P M E S T"),
    ("9:30 GMT-5", "nine thirty G M T minus five"),
    ("GMT-5", "GMT minus five"),
    ("14:00+02:00", "fourteen hundred plus two"),
    ("1.59 p.m.", "one fifty-nine P M."),
    ("1:23:45", "one hour, twenty-three minutes and forty-five seconds"),
    ("4:00 am - 8:12 pm", "four A M to eight twelve P M"),
]
NO_RANGES = [
    ("i7-12700K", "i seven twelve thousand seven hundred K"),
    ("Boeing 747-400", "Boeing seven hundred forty-seven four hundred"),
    ("Llama-3.1-8B", "Llama three point one eight B"),
    ("+1-800-FLOWERS", "plus one, eight hundred, flowers"),
    ("10.0.0.1:8080", "one zero dot zero dot zero dot one colon eight zero eight zero"),
    ("978-0", "nine hundred seventy-eight zero"),
    ("50-50", "fifty fifty"),
    ("1-2=5", "one minus two equals five"),
    ("1100-1200 kg", "one thousand one hundred to one thousand two hundred kilograms"),
]  # fmt: skip
GROUPS_AND_MATHEMATICS = [
    ("1 234 567", "one million two hundred thirty-four thousand five hundred sixty-seven"),
    ("12\u202f500 m", "twelve thousand five hundred meters"),
    ("12 000 people", "twelve thousand people"),
    ("1'234'567", "one million two hundred thirty-four thousand five hundred sixty-seven"),
    ("3,50 €", "three euros and fifty cents"),
    ("€1.234,56", "one thousand two hundred thirty-four euros and fifty-six cents"),
    ("10**2", "ten squared"),
    ("2*x + x*y", "two times x plus x times y"),
    ("1e-5", "one times ten to the power of minus five"),
    ("10⁻⁵ m²", "ten to the power of minus five square meters"),
    ("a == b", "A equals b"),
    ("a -> b => c", "a to b to c"),
    ("f(x) = x^2", "f of x equals x squared"),
]
MONEY = [
    ("US$5", "five US dollars"),
    ("USD 5m", "five million US dollars"),
    ("5 EUR, 20 zł", "five euros, twenty zloties"),
    ("$1/mo", "one dollar per month"),
    ("$20.5 and $.01", "twenty dollars and fifty cents and one cent"),
    ("₩460 billion", "four hundred sixty billion won"),
    ("C$3, R$2 and CHF 1", "three Canadian dollars, two Brazilian reals and one Swiss franc"),
    ("¥30b", "thirty billion yen"),
]
MEASURES = [
    ("12KG and 3 mbps", "twelve kilograms and three megabits per second"),
    ("41 km³, 5 m2, 8 sq ft", "forty-one cubic kilometers, five square meters, eight square feet"),
    ("100 million kg", "one hundred million kilograms"),
    ("a 5-km run", "a five kilometer run"),
    ('a 12" pizza', "a twelve inch pizza"),
    ('"12"', '"twelve"'),
    ("2x8 m", "two by eight meters"),
    ("W2s", "W two s"),
    ("3 km/h, 12/kg", "three kilometers per hour, twelve per kilogram"),
    ("25℃ 5㎞", "twenty-five degrees Celsius five kilometers"),
]
ORDINALS_AND_ROMAN_NUMERALS = [
    ("21ST and 1,000th", "twenty-first and one thousandth"),
    ("21th", "twenty-one th"),
    ("1/4th, 2/3rds", "one quarter, two thirds"),
    ("Henry VIII and Elizabeth II", "Henry the eighth and Elizabeth the second"),
    ("Louis XIV's", "Louis the fourteenth's"),
    ("Chapter IV, Part XL", "Chapter four, Part forty"),
    ("World War II", "World War two"),
    ("Scene iii", "Scene three"),
    ("The IV drip, XL, Malcolm X, and I", "The IV drip, XL, Malcolm X, and I"),
]
DIGIT_BY_DIGIT = [
    ("call 911", "call nine one one"),
    ("card ending in 8876", "card ending in eight eight seven six"),
    ("account number 12345678", "account number one two three four five six seven eight"),
    ("flight UA 1234", "flight UA one two three four"),
    ("my SSN is 111-11-1111", "my SSN is one one one, one one, one one one one"),
    ("a 401(k)", "a four oh one k"),
    ("Austin, TX 78701-1234", "Austin, Texas, seven eight seven zero one, one two three four"),
    ("1428 Elm St.", "fourteen twenty-eight Elm Street."),
    ("221B Baker St in", "two twenty-one B Baker Street in"),
    ("708 N 1st Ave NW", "seven zero eight North first Avenue Northwest"),
    ("on Elm Dr. near Dr. No", "on Elm Drive near Doctor No"),
]
ADDRESSES = [
    ("example.museum and end.then", "example dot museum and end.then"),
    ("foo.co.uk/a?b=1", "foo dot co dot uk slash a question mark b equals one"),
    ("a1-b_c@x.org", "A one dash b underscore c at x dot org"),
    ("~/.bashrc and /etc/passwd", "tilde slash dot bashrc and slash E T C slash passwd"),
    ("C:\\Users\\me", "C colon backslash Users backslash me"),
    ("#OpenSource @user_name", "hashtag Open Source at user name"),
]
CHARACTERS = [
    ("① Ⅳ ＡＢＣ１２ 𝐇𝐢 ﬁne", "one IV ABC twelve Hi fine"),
    ("⅕ H₂O 10⁶ №5 ★", "one fifth H two O ten to the power of six number five star"),
    ("x² and words²", "x squared and words"),
    ("٣ and १", "٣ and १"),
]
PEOPLE_WRITE = [
    ("x^2 - 4x + 4", "x squared minus four x plus four"),
    ("5x - 3y = 2", "five x minus three y equals two"),
    ("O(n^2) or O(n log n)", "O of n squared or O of n log n"),
    ("6'2\" and 185 lbs", "six foot two and one hundred eighty-five pounds"),
    ("they're 10-3-2", "they're ten, three, two"),
    ("W/ love", "With love"),
    ("w/ 10 people, w/o sugar", "with ten people, without sugar"),
    ("5 W/m²", "five watts per square meter"),
    ("etc.; and", "et cetera; and"),
    ("2 Tbsp. sugar, 3/4 tsp salt", "two tablespoons sugar, three quarters teaspoon salt"),
    ("¯\\_(ツ)_/¯ idk", "idk"),
    ("at localhost:8080/docs", "at localhost colon eight zero eight zero slash docs"),
    ("localhost: yes", "localhost: yes"),
    ("B12, CO2", "B twelve, CO two"),
    ("Denver, CO 80202", "Denver, Colorado, eight zero two zero two"),
    ("Settings > Wi-Fi, 5 > 3", "Settings, Wi-Fi, five greater than three"),
    ("F♯ or B♭", "F sharp or B flat"),
    ("10 a.m.–2 p.m. EST", "ten A M to two P M E S T"),
    ("due 5/12, by 11/30", "due May twelfth, by November thirtieth"),
    ("by 3/4 on 1/2 acre", "by three quarters on one half acre"),
    ("5 yrs old", "five years old"),
    ("24 kHz, 3 GHz", "twenty-four kilohertz, three gigahertz"),
    ("IBAN DE89 3704 0044", "Iban DE eight nine three seven zero four zero zero four four"),
    ("invoice no. 77", "invoice number seventy-seven"),
]
TABLE = [
    *NUMBERS,
    *FRACTIONS_AND_RANGES,
    *YEARS_DATES_TIMES,
    *MONEY_AND_UNITS,
    *WORDS_AND_SYMBOLS,
    *TEXT_AND_MARKUP,
    *DATES_AND_TIMES,
    *NO_RANGES,
    *GROUPS_AND_MATHEMATICS,
    *MONEY,
    *MEASURES,
    *ORDINALS_AND_ROMAN_NUMERALS,
    *DIGIT_BY_DIGIT,
    *ADDRESSES,
    *CHARACTERS,
    *PEOPLE_WRITE,
]


@rows(("text", "words"), TABLE)
def test_reading(text, words):
    assert normalize(text) == words


@rows(("text", "words"), TABLE)
def test_a_reading_is_read_as_it_is(text, words):
    assert normalize(words) == words


# Pieces that the passes look for, so that random text puts them next to each other.
PIECES = [
    *" .,;:!?-_*`#~^/\\|()[]{}<>@&+=%$£€°'\"\n015sxAé你²½①٣😀\u200d\u0301–—…",
    *("w/", "w/o", "O(", "x^2", " - 4x", "localhost:", "tbsp", "¯_(ツ)_/¯"),
    *("12", "1999", "2024", "07", ".com", "www.", "https://", "Dr", "Dr.", "St.", "No.", "etc."),
    *("e.g.", "vs", "km", "/h", "am", "p.m.", "M", "°C", "th", "March", "Jan.", "in", "the"),
    *("\n\n", "\n- ", "1. ", "> ", ":)", "(s)", "->", "$5", "3:16", "x@y.org", "<b>", "]("),
    *(
        "may",
        "Q3",
        "'23",
        "A.D.",
        "est",
        "GMT",
        "-5",
        "1:23:45",
        "USD",
        "/mo",
        "km³",
        "Chapter",
        "IV",
    ),
    *(
        "Louis",
        "call 911",
        "flight",
        ", CA",
        "1428 Elm ",
        "C:\\",
        "#tag",
        "1e-5",
        "10**2",
        "a.b",
        "'s",
    ),
    *(
        "1'234",
        " 000",
        "5'10\"",
        "and/or",
        "80s",
        "W05",
        "15.01.2020",
        "21ST",
        "code 12345",
        "million",
    ),
]
# What people paste: tests/speech/test_pasted.py.
PIECES += [
    *("UNITED", "FBI", "NASA", "IT", "US", "RAMESH", "DON'T", "I'LL", "A ", " a", "A", "THE "),
    *(
        "9:00-17:00",
        "1h 30m",
        "3d 2h",
        "Part C",
        "World War I",
        "Seat 12A",
        "Room 1204",
        "Chapter ",
    ),
    *(
        "4111 1111 1111 1111",
        "020 7946 0958",
        "1 John 3:8",
        "Shh",
        "Psst",
        "Mon-Fri",
        "Mon.",
        "Sat/",
    ),
    *("23 x 5 = 115", " x - y", "-x + 3", "0x1F", "β", "-α", "1,00,000", "₹2.5 crore", "$3.5-4.2M"),
    *(
        "8/10",
        " stars",
        "rated ",
        "Exp 04/27",
        "12' x 10'",
        "6' 2\"",
        ".NET",
        "H.264",
        " v. ",
        "°F/°C",
    ),
    *("-\n", "nega", "1700 hours", "#a#", "Oak Dr. It", "Monday, 3/14", "20.x", "§§", "INC", "MR "),
]
mixed_text = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


@given(st.one_of(mixed_text, st.text()))
def test_a_second_time_changes_nothing_and_no_digit_is_left(text):
    words = normalize(text)
    assert normalize(words) == words
    assert not re.search("[0-9]", words)
    assert words == " ".join(words.split())


@given(st.lists(st.text("abcdefghé", min_size=2), min_size=1), st.sampled_from([".", "!", ", and"]))
def test_plain_words_pass_unchanged(words, end):
    sentence = " ".join(words) + end
    assert normalize(sentence) == sentence


@pytest.mark.parametrize(
    "piece",
    [
        *("1", "1,", "1.", "1-", "1/", "1:", "1 ", "(1)", "(", "[]", "[](", "a", "a@", "a.", "a-"),
        *("a--", "<a ", "$1", "-", " ", ". ", "_", "#", "*", "\\*", "\n", "\n- ", "https://"),
        *(
            "www.",
            "a.com/",
            "+1 ",
            "123 ",
            "1 1/2 ",
            "March 1 ",
            "1km",
            "1x",
            "1st",
            "10:10",
            "e.g.",
        ),
        *("é", "\u0301", "😀", "\u200d", "\ud800", "\x00"),
    ],
)
def test_hostile_repetition_returns(piece):
    """Under quadratic time these would take minutes."""
    normalize(piece * (20_000 // len(piece)))
