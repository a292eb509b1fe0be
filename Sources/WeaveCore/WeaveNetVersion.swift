/// The version of this suite, as `weaver --version`, `weave version` and the report show it.
public enum WeaveNetVersion {
    /// In the form `major.minor.patch`.
    public static let current = "0.1.0"
}
