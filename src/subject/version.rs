//! How to learn an allocator's version: from its own code, called in a child process of its own and
//! never in the parent, or from elsewhere.

use core::ffi::{CStr, c_char, c_int, c_void};
use std::ffi::CString;
use std::str::FromStr;

use serde::Deserialize;

use super::functions::Functions;

/// Where the version comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum VersionSource {
    /// Whichever of the known functions its object has.
    #[default]
    Probe,
    /// jemalloc's `mallctl` under this name.
    Mallctl(String),
    /// A function `const char *f(int *major, int *minor, const char **patch)`, as tcmalloc has; one
    /// without parameters will do.
    TextFunction(String),
    /// A function `int f(void)` that numbers as mimalloc does.
    MimallocFunction(String),
    /// The version of a Debian package.
    Package(String),
    /// A given text.
    Text(String),
}

/// `version = { ... }` of a subject.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VersionTable {
    mallctl: Option<String>,
    symbol: Option<String>,
    format: Option<Format>,
    package: Option<String>,
    text: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Format {
    Text,
    Mimalloc,
}

impl TryFrom<VersionTable> for VersionSource {
    type Error = String;

    fn try_from(table: VersionTable) -> Result<Self, String> {
        let format = table.format;
        if format.is_some() && table.symbol.is_none() {
            return Err("version: format goes with symbol only".to_owned());
        }
        match (table.mallctl, table.symbol, table.package, table.text) {
            (Some(name), None, None, None) => Ok(Self::Mallctl(name)),
            (None, Some(name), None, None) if format == Some(Format::Mimalloc) => {
                Ok(Self::MimallocFunction(name))
            }
            (None, Some(name), None, None) => Ok(Self::TextFunction(name)),
            (None, None, Some(name), None) => Ok(Self::Package(name)),
            (None, None, None, Some(text)) => Ok(Self::Text(text)),
            _ => Err("version needs exactly one of mallctl, symbol, package, text".to_owned()),
        }
    }
}

/// A source as one word of a child's command line.
impl std::fmt::Display for VersionSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Probe => write!(f, "probe:"),
            Self::Mallctl(name) => write!(f, "mallctl:{name}"),
            Self::TextFunction(name) => write!(f, "text-function:{name}"),
            Self::MimallocFunction(name) => write!(f, "mimalloc-function:{name}"),
            Self::Package(name) => write!(f, "package:{name}"),
            Self::Text(text) => write!(f, "text:{text}"),
        }
    }
}

impl FromStr for VersionSource {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        let (kind, rest) = word.split_once(':').ok_or(())?;
        let rest = rest.to_owned();
        Ok(match kind {
            "probe" => Self::Probe,
            "mallctl" => Self::Mallctl(rest),
            "text-function" => Self::TextFunction(rest),
            "mimalloc-function" => Self::MimallocFunction(rest),
            "package" => Self::Package(rest),
            "text" => Self::Text(rest),
            _ => return Err(()),
        })
    }
}

impl VersionSource {
    /// What the source says, without calling anything of the allocator's; `None` if that is needed.
    pub fn without_the_allocator(&self) -> Option<Option<String>> {
        match self {
            Self::Package(name) => Some(package_version(name)),
            Self::Text(text) => Some(Some(text.clone())),
            _ => None,
        }
    }

    /// Asks the allocator that serves this process. Only functions of the object that serves
    /// `malloc` are called.
    pub fn ask(&self, functions: &Functions) -> Option<String> {
        match self {
            Self::Probe => [
                Self::Mallctl("version".to_owned()),
                Self::MimallocFunction("mi_version".to_owned()),
                Self::TextFunction("tc_version".to_owned()),
            ]
            .iter()
            .find_map(|known| known.ask(functions)),
            Self::Mallctl(name) => {
                let function = symbol("mallctl", functions)?;
                // SAFETY: an allocator's object that defines `mallctl` means jemalloc's; one that
                // lies crashes this process, which is for that.
                let mallctl = unsafe { std::mem::transmute::<*mut c_void, Mallctl>(function) };
                mallctl_text(mallctl, name)
            }
            Self::MimallocFunction(name) => {
                let function = symbol(name, functions)?;
                // SAFETY: as above, for the function that the entry names.
                let number = unsafe {
                    std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> c_int>(function)()
                };
                Some(mimalloc_version(number))
            }
            Self::TextFunction(name) => {
                let function = symbol(name, functions)?;
                let (mut major, mut minor) = (0, 0);
                let mut patch: *const c_char = core::ptr::null();
                // SAFETY: as above; all three places have room for what is written.
                let text = unsafe {
                    std::mem::transmute::<*mut c_void, TextFunction>(function)(
                        &raw mut major,
                        &raw mut minor,
                        &raw mut patch,
                    )
                };
                terminated_text(text)
            }
            Self::Package(_) | Self::Text(_) => self.without_the_allocator().flatten(),
        }
    }
}

/// jemalloc's way to read and write its settings.
pub(super) type Mallctl =
    unsafe extern "C" fn(*const c_char, *mut c_void, *mut usize, *mut c_void, usize) -> c_int;
type TextFunction =
    unsafe extern "C" fn(*mut c_int, *mut c_int, *mut *const c_char) -> *const c_char;

/// A function of the object that serves `malloc`.
fn symbol(name: &str, functions: &Functions) -> Option<*mut c_void> {
    let name = CString::new(name).ok()?;
    // SAFETY: a terminated string.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    let same = !address.is_null() && base(address) == base(functions.malloc as *const c_void);
    same.then_some(address)
}

fn base(address: *const c_void) -> *mut c_void {
    // SAFETY: a structure of pointers, for which zeroes are valid.
    let mut information: libc::Dl_info = unsafe { core::mem::zeroed() };
    // SAFETY: `information` has room for the answer; any address may be asked for.
    unsafe { libc::dladdr(address, &raw mut information) };
    information.dli_fbase
}

/// The text under a name, up to the "-0-g54eaed" that names the commit.
pub(super) fn mallctl_text(mallctl: Mallctl, name: &str) -> Option<String> {
    let name = CString::new(name).ok()?;
    let mut text: *const c_char = core::ptr::null();
    let mut length = size_of_val(&text);
    // SAFETY: a `const char *` is read; `text` has room for it and `length` says so.
    let failed = unsafe {
        mallctl(
            name.as_ptr(),
            (&raw mut text).cast(),
            &raw mut length,
            core::ptr::null_mut(),
            0,
        )
    };
    let text = if failed == 0 {
        terminated_text(text)?
    } else {
        return None;
    };
    Some(text.split('-').next().unwrap_or(&text).to_owned())
}

fn terminated_text(text: *const c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: not null, so it is the static, terminated string that such a function returns.
    let text = unsafe { CStr::from_ptr(text) };
    Some(text.to_string_lossy().into_owned())
}

/// mimalloc 2 numbers 2.1.7 as 217; mimalloc 3.1 and later as 30105.
pub(super) fn mimalloc_version(number: i32) -> String {
    if number >= 10_000 {
        format!(
            "{}.{}.{}",
            number / 10_000,
            number / 100 % 100,
            number % 100
        )
    } else {
        format!("{}.{}.{}", number / 100, number / 10 % 10, number % 10)
    }
}

/// The version of a Debian package, if it is installed.
fn package_version(name: &str) -> Option<String> {
    let output = std::process::Command::new("dpkg-query")
        .args(["--show", "--showformat=${Version}", "--", name])
        .output()
        .ok()?;
    let version = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !version.is_empty()).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Result<VersionSource, String> {
        let table: VersionTable = toml::from_str(text).map_err(|error| error.to_string())?;
        table.try_into()
    }

    #[test]
    fn sources_are_read_and_survive_the_command_line() {
        for (text, expected) in [
            (
                "mallctl = 'version'",
                VersionSource::Mallctl("version".to_owned()),
            ),
            (
                "symbol = 'tc_version'",
                VersionSource::TextFunction("tc_version".to_owned()),
            ),
            (
                "symbol = 'mi_version'\nformat = 'mimalloc'",
                VersionSource::MimallocFunction("mi_version".to_owned()),
            ),
            (
                "package = 'libjemalloc2'",
                VersionSource::Package("libjemalloc2".to_owned()),
            ),
            ("text = '1: 2'", VersionSource::Text("1: 2".to_owned())),
        ] {
            let read = source(text).expect(text);
            assert_eq!(read, expected);
            assert_eq!(read.to_string().parse(), Ok(read));
        }
        for text in [
            "",
            "text = '1'\npackage = 'p'",
            "text = '1'\nformat = 'text'",
            "txt = ''",
        ] {
            assert!(source(text).is_err(), "{text}");
        }
    }

    #[test]
    fn mimalloc_numbers() {
        assert_eq!(mimalloc_version(217), "2.1.7");
        assert_eq!(mimalloc_version(30_105), "3.1.5");
    }

    #[test]
    fn only_the_object_that_serves_malloc_is_asked() {
        let functions = Functions::resolved().expect("the C library has them all");
        // The C library has this function, and serves malloc here.
        let source = VersionSource::TextFunction("gnu_get_libc_version".to_owned());
        assert!(
            source
                .ask(&functions)
                .expect("glibc tells")
                .starts_with("2.")
        );
        assert_eq!(VersionSource::Probe.ask(&functions), None);
    }
}
