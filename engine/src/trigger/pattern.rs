//! A cron text as a set of local times: which match, the first one from a time on, how many lie between two.

use chrono::{Datelike, Days, Months, NaiveDate, NaiveDateTime, NaiveTime, Timelike};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use croner::time::Weekday;

use super::CalendarError;
use super::fields::FIELDS;

const SECONDS_PER_DAY: u32 = 86_400;

/// The Gregorian calendar repeats after 400 years: a pattern without a day in so long a time has none.
const CYCLE_YEARS: i32 = 400;

/// No search goes beyond this year, which keeps all arithmetic inside what chrono can hold.
pub(super) const LAST_YEAR: i32 = 9999;

/// A parsed cron text.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    text: String,
    days: Cron,
    seconds: Vec<u32>,
    minutes: Vec<u32>,
    hours: Vec<u32>,
    fixed_time: bool,
}

impl Pattern {
    /// Reads a cron text; an error names the field, what is wrong with it and an example.
    pub(super) fn parse(text: &str) -> Result<Self, CalendarError> {
        let trimmed = text.trim();
        let expanded = expand_nickname(trimmed)?;
        let fixed_time = read_fields(trimmed, expanded)?;
        let parser = CronParser::builder()
            .seconds(Seconds::Optional)
            .year(Year::Optional)
            .build();
        let days = parser.parse(expanded).map_err(|error| CalendarError::Cron {
            cron: trimmed.to_owned(),
            problem: error.to_string(),
        })?;
        let values =
            |component: &croner::CronComponent| component.values().into_iter().map(u32::from).collect::<Vec<_>>();
        let pattern = Self {
            text: trimmed.to_owned(),
            seconds: values(&days.pattern.seconds),
            minutes: values(&days.pattern.minutes),
            hours: values(&days.pattern.hours),
            days,
            fixed_time,
        };
        if pattern.next_day(NaiveDate::default()).is_none() {
            return Err(CalendarError::NeverFires { cron: pattern.text });
        }
        Ok(pattern)
    }

    /// The text as it was given, without the blanks around it.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether the text names times of day instead of an interval.
    pub(super) fn is_fixed_time(&self) -> bool {
        self.fixed_time
    }

    /// The first matching local time at or after `from`, a whole second.
    pub(super) fn at_or_after(&self, from: NaiveDateTime) -> Option<NaiveDateTime> {
        if from.year() > LAST_YEAR {
            return None;
        }
        if self.day_matches(from.date())
            && let Some(second) = self.second_at_or_after(second_of_day(from))
        {
            return at_second(from.date(), second);
        }
        let day = self.next_day(from.date())?;
        at_second(day, self.second_at_or_after(0)?)
    }

    /// Whether this local time matches.
    pub(super) fn matches(&self, local: NaiveDateTime) -> bool {
        self.at_or_after(local) == Some(local)
    }

    /// The first matching local time in `from..to`.
    pub(super) fn first_in(&self, from: NaiveDateTime, to: NaiveDateTime) -> Option<NaiveDateTime> {
        self.at_or_after(from).filter(|local| *local < to)
    }

    /// How many local times in `from..to` match; one step for each day, whatever the number of times in it.
    pub(super) fn count(&self, from: NaiveDateTime, to: NaiveDateTime) -> u64 {
        if from >= to {
            return 0;
        }
        let mut total = 0;
        let mut day = Some(from.date());
        while let Some(date) = day.filter(|date| *date <= to.date()) {
            if self.day_matches(date) {
                let first = if date == from.date() { second_of_day(from) } else { 0 };
                let end = if date == to.date() {
                    second_of_day(to)
                } else {
                    SECONDS_PER_DAY
                };
                total += self.count_before(end) - self.count_before(first);
            }
            day = self.next_day(date);
        }
        total
    }

    fn day_matches(&self, date: NaiveDate) -> bool {
        let weekday = Weekday::from_days_from_sunday(date.weekday().num_days_from_sunday());
        let pattern = &self.days.pattern;
        // An error means a date that does not exist, which a `NaiveDate` never is.
        pattern.month_match(date.month()).unwrap_or(false)
            && pattern
                .day_match(date.year(), date.month(), date.day(), weekday)
                .unwrap_or(false)
    }

    /// The first matching day after `date`.
    fn next_day(&self, date: NaiveDate) -> Option<NaiveDate> {
        let last_year = LAST_YEAR.min(date.year() + CYCLE_YEARS);
        let mut day = date.checked_add_days(Days::new(1))?;
        while day.year() <= last_year {
            if self.day_matches(day) {
                return Some(day);
            }
            day = if self.days.pattern.month_match(day.month()).unwrap_or(false) {
                day.checked_add_days(Days::new(1))?
            } else {
                day.with_day(1)?.checked_add_months(Months::new(1))?
            };
        }
        None
    }

    /// The first matching second of a day at or after `second`.
    fn second_at_or_after(&self, second: u32) -> Option<u32> {
        let time = NaiveTime::from_num_seconds_from_midnight_opt(second, 0)?;
        let (first_minute, first_second) = (*self.minutes.first()?, *self.seconds.first()?);
        let hour = at_least(&self.hours, time.hour())?;
        if hour > time.hour() {
            return Some(hour * 3_600 + first_minute * 60 + first_second);
        }
        if self.minutes.contains(&time.minute())
            && let Some(found) = at_least(&self.seconds, time.second())
        {
            return Some(hour * 3_600 + time.minute() * 60 + found);
        }
        if let Some(minute) = at_least(&self.minutes, time.minute() + 1) {
            return Some(hour * 3_600 + minute * 60 + first_second);
        }
        let later = at_least(&self.hours, hour + 1)?;
        Some(later * 3_600 + first_minute * 60 + first_second)
    }

    /// How many seconds of a matching day before `second` match.
    fn count_before(&self, second: u32) -> u64 {
        let (hour, minute) = (second / 3_600, second / 60 % 60);
        let (per_minute, per_hour) = (self.seconds.len(), self.seconds.len() * self.minutes.len());
        let mut total = below(&self.hours, hour) * per_hour;
        if self.hours.contains(&hour) {
            total += below(&self.minutes, minute) * per_minute;
            if self.minutes.contains(&minute) {
                total += below(&self.seconds, second % 60);
            }
        }
        total as u64
    }
}

/// Whether the three time fields are all closed; an error about the first field that is wrong.
fn read_fields(text: &str, expanded: &str) -> Result<bool, CalendarError> {
    let values: Vec<&str> = expanded.split_whitespace().collect();
    let fields = match values.len() {
        5 => &FIELDS[1..],
        6 => &FIELDS[..],
        found => {
            return Err(CalendarError::FieldCount {
                cron: text.to_owned(),
                found,
            });
        }
    };
    let mut fixed_time = true;
    for (field, value) in fields.iter().zip(values) {
        let open = field.read(value).map_err(|problem| CalendarError::Field {
            cron: text.to_owned(),
            field: field.name,
            value: value.to_owned(),
            problem,
            example: field.example,
        })?;
        if open && matches!(field.name, "second" | "minute" | "hour") {
            fixed_time = false;
        }
    }
    Ok(fixed_time)
}

fn expand_nickname(text: &str) -> Result<&str, CalendarError> {
    if !text.starts_with('@') {
        return Ok(text);
    }
    match text.to_ascii_lowercase().as_str() {
        "@hourly" => Ok("0 * * * *"),
        "@daily" | "@midnight" => Ok("0 0 * * *"),
        "@weekly" => Ok("0 0 * * 0"),
        "@monthly" => Ok("0 0 1 * *"),
        "@yearly" | "@annually" => Ok("0 0 1 1 *"),
        _ => Err(CalendarError::Nickname { cron: text.to_owned() }),
    }
}

fn second_of_day(local: NaiveDateTime) -> u32 {
    local.time().num_seconds_from_midnight()
}

fn at_second(date: NaiveDate, second: u32) -> Option<NaiveDateTime> {
    Some(date.and_time(NaiveTime::from_num_seconds_from_midnight_opt(second, 0)?))
}

fn at_least(sorted: &[u32], value: u32) -> Option<u32> {
    sorted.get(below(sorted, value)).copied()
}

fn below(sorted: &[u32], value: u32) -> usize {
    sorted.partition_point(|entry| *entry < value)
}
