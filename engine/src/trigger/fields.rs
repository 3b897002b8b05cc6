//! Reads the fields of a cron text one by one, so that an error names the field and the value that are wrong.
//!
//! `croner` reads the text a second time and is what matches days; it is more lenient (`1,,2`, `MON` for a minute,
//! `L,LW`) and its messages do not say which field they are about.

/// One field: its name, its bounds, the names it takes and an example for the error message.
pub(super) struct Field {
    pub(super) name: &'static str,
    min: u32,
    max: u32,
    names: &'static [&'static str],
    pub(super) example: &'static str,
    days: Days,
}

/// Which of the day signs (`L`, `W`, `#`, `?`, `+`) a field takes.
#[derive(PartialEq)]
enum Days {
    No,
    OfMonth,
    OfWeek,
}

/// The six fields, in the order in which they are written.
pub(super) const FIELDS: [Field; 6] = [
    Field::plain("second", 0, 59, "0"),
    Field::plain("minute", 0, 59, "*/15"),
    Field::plain("hour", 0, 23, "6"),
    Field {
        days: Days::OfMonth,
        ..Field::plain("day-of-month", 1, 31, "1,15")
    },
    Field {
        names: &[
            "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
        ],
        ..Field::plain("month", 1, 12, "JAN-MAR")
    },
    Field {
        names: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
        days: Days::OfWeek,
        ..Field::plain("day-of-week", 0, 7, "MON-FRI")
    },
];

impl Field {
    const fn plain(name: &'static str, min: u32, max: u32, example: &'static str) -> Self {
        Self {
            name,
            min,
            max,
            names: &[],
            example,
            days: Days::No,
        }
    }

    /// Whether the text is open, that is holds a `*` or a step; or what is wrong with it.
    pub(super) fn read(&self, text: &str) -> Result<bool, String> {
        let upper = text.to_ascii_uppercase();
        let list = match self.days {
            Days::OfWeek => upper.strip_prefix('+').unwrap_or(&upper),
            _ => &upper,
        };
        if list == "*" || (list == "?" && self.days != Days::No) {
            return Ok(true);
        }
        let mut open = false;
        for item in list.split(',') {
            open |= self.read_item(item)?;
        }
        // The matcher keeps one flag for both and would drop the plain `L`.
        if list.split(',').any(|item| item == "L") && list.split(',').any(|item| item == "LW") {
            return Err("names both `L` and `LW`; keep one".to_owned());
        }
        Ok(open)
    }

    fn read_item(&self, item: &str) -> Result<bool, String> {
        if item.is_empty() {
            return Err("has an empty entry in its list".to_owned());
        }
        if let Some((range, step)) = item.split_once('/') {
            self.read_step(range, step)?;
            return Ok(true);
        }
        if item == "*" {
            return Err("mixes `*` with other entries; `*` stands alone".to_owned());
        }
        if self.read_day_sign(item)? {
            return Ok(false);
        }
        self.read_range(item)?;
        Ok(false)
    }

    fn read_step(&self, range: &str, step: &str) -> Result<(), String> {
        let most = self.max - self.min;
        match step.parse::<u32>() {
            Ok(width) if (1..=most).contains(&width) => {}
            _ => return Err(format!("has the step `{step}`; a step is a number from 1 to {most}")),
        }
        if range == "*" {
            return Ok(());
        }
        if !range.contains('-') {
            let max = self.max;
            return Err(format!(
                "has a step without a range; write `*/{step}` or `{range}-{max}/{step}`"
            ));
        }
        self.read_range(range)
    }

    /// Whether the entry is one of the day signs.
    fn read_day_sign(&self, item: &str) -> Result<bool, String> {
        match self.days {
            Days::No => Ok(false),
            Days::OfMonth => {
                if item == "L" || item == "LW" {
                    return Ok(true);
                }
                let Some(day) = item.strip_suffix('W') else {
                    return Ok(false);
                };
                self.read_value(day).map(|_| true)
            }
            Days::OfWeek => {
                if let Some((days, nth)) = item.split_once('#') {
                    if !["1", "2", "3", "4", "5", "L"].contains(&nth) {
                        return Err(format!("has `#{nth}`; after `#` comes 1 to 5, or L for the last"));
                    }
                    return self.read_range(days).map(|()| true);
                }
                let Some(day) = item.strip_suffix('L') else {
                    return Ok(false);
                };
                if day.is_empty() {
                    return Err("has `L` alone; name the day, as in `5L`, the last Friday".to_owned());
                }
                self.read_value(day).map(|_| true)
            }
        }
    }

    fn read_range(&self, item: &str) -> Result<(), String> {
        let Some((first, last)) = item.split_once('-') else {
            return self.read_value(item).map(|_| ());
        };
        let from = self.read_value(first)?;
        let mut to = self.read_value(last)?;
        // Sunday is 0 and 7; at the end of a range its name means 7.
        if self.days == Days::OfWeek && last == "SUN" {
            to = 7;
        }
        if from <= to {
            return Ok(());
        }
        let (min, max) = (self.min, self.max);
        Err(format!(
            "has a range that runs backwards; write `{first}-{max},{min}-{last}`"
        ))
    }

    fn read_value(&self, text: &str) -> Result<u32, String> {
        if let Some(position) = (0_u32..).zip(self.names).find(|(_, name)| **name == text) {
            return Ok(self.min + position.0);
        }
        let digits = !text.is_empty() && text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse::<u32>() {
            Ok(value) if digits && (self.min..=self.max).contains(&value) => Ok(value),
            _ => {
                let (min, max) = (self.min, self.max);
                let names = match self.names {
                    [first, .., last] => format!(", or {first} to {last}"),
                    _ => String::new(),
                };
                Err(format!("has `{text}`; allowed are {min} to {max}{names}"))
            }
        }
    }
}
