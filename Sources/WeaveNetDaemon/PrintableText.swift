/// Text from peers, clients and the kernel on its way to people. Nicknames and reasons are chosen by others, so
/// characters that would break a line, or steer a terminal, are replaced.
func printable(_ text: String) -> String {
    guard text.unicodeScalars.contains(where: isUnprintable) else { return text }
    var clean = String.UnicodeScalarView()
    for scalar in text.unicodeScalars { clean.append(isUnprintable(scalar) ? "?" : scalar) }
    return String(clean)
}

/// Control characters, line and paragraph separators, and the marks that reorder text.
private func isUnprintable(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.properties.generalCategory {
    case .control, .lineSeparator, .paragraphSeparator, .format, .surrogate: true
    default: false
    }
}

extension String {
    /// The text with blanks after it up to `width` characters; longer text stays whole.
    func padded(to width: Int) -> String {
        let missing = width - unicodeScalars.count
        return missing > 0 ? self + String(repeating: " ", count: missing) : self
    }

    /// The text with blanks before it up to `width` characters.
    func rightAligned(to width: Int) -> String {
        let missing = width - unicodeScalars.count
        return missing > 0 ? String(repeating: " ", count: missing) + self : self
    }
}
