//! A profile's section in a shared file.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

/// The settings of a profile by their names.
pub(super) type Settings = BTreeMap<String, Zeroizing<String>>;

/// The settings under a profile's name; nothing where it is not there. The file of other settings
/// writes `[profile name]`, but for the default one.
pub(super) fn section(text: &str, name: &str, is_config: bool) -> Option<Settings> {
    let mut settings = None;
    let mut is_inside = false;
    for line in text.lines() {
        // Indented lines belong to the setting above, which is none of ours.
        if line.starts_with([' ', '\t', '#', ';']) || line.trim().is_empty() {
            continue;
        }
        if let Some(header) = line.strip_prefix('[') {
            let header = header.split(']').next().unwrap_or_default().trim();
            let own = header.strip_prefix("profile").filter(|it| it.starts_with([' ', '\t']));
            is_inside = match own {
                Some(own) if is_config => own.trim() == name,
                _ => header == name && (!is_config || name == "default"),
            };
            if is_inside {
                settings.get_or_insert_with(Settings::new);
            }
        } else if let (true, Some(settings), Some((key, value))) =
            (is_inside, settings.as_mut(), line.split_once('='))
        {
            let value = value.split_once(" #").map_or(value, |(value, _)| value);
            settings.insert(key.trim().to_lowercase(), Zeroizing::new(value.trim().to_owned()));
        }
    }
    settings
}
