/// Which sequence numbers were here already, over the window of the highest one seen and the window before it
/// (overlay-sleeve.md 1.5). A window is an aligned run of 2^20 numbers; what lies further back counts as seen.
///
/// The bits are in pages that are taken from the system when a number first falls into them and carry the number of the
/// window they are for. Neighbouring windows use different pages; a page left over from a window long gone is
/// wiped when it is next used. So moving on to another window costs nothing, and a connection that is idle holds one
/// page.
@safe
package struct ReplayWindow: ~Copyable {
    private static let windowShift: UInt64 = 20
    /// Numbers for which one page has bits: 2 KiB, small enough for idle connections.
    private static let pageShift: UInt64 = 14
    private static let pagesPerWindow = 1 << Int(windowShift - pageShift)
    private static let wordsPerPage = (1 << Int(pageShift)) / UInt64.bitWidth
    /// The word of a page that holds the number of its window.
    private static let tagIndex = wordsPerPage

    private typealias Page = UnsafeMutablePointer<UInt64>

    private var current: UInt64 = 0
    /// For even windows, then for odd ones; nil until the first number.
    private var pages: UnsafeMutablePointer<Page?>?

    package init() {}

    deinit {
        guard let pages = unsafe pages else { return }
        for index in 0..<2 * Self.pagesPerWindow { unsafe pages[index]?.deallocate() }
        unsafe pages.deallocate()
    }

    /// Whether `sequence`, which must belong to an authentic packet, is new. It is not any more after that.
    package mutating func accept(_ sequence: UInt64) -> Bool {
        let window = sequence >> Self.windowShift
        // Written so that no sum can overflow: `window` has 44 bits at most.
        guard window + 1 >= current else { return false }
        let page = unsafe page(of: window, sequence)
        if unsafe page[Self.tagIndex] != window {
            unsafe page.update(repeating: 0, count: Self.wordsPerPage)
            unsafe page[Self.tagIndex] = window
        }
        let bit: UInt64 = 1 << (sequence & 63)
        let index = Int(sequence >> 6) & (Self.wordsPerPage - 1)
        guard unsafe page[index] & bit == 0 else { return false }
        unsafe page[index] |= bit
        current = max(current, window)
        return true
    }

    /// How many bytes are taken at present.
    package var byteCount: Int {
        guard let pages = unsafe pages else { return 0 }
        let taken = (0..<2 * Self.pagesPerWindow).count { unsafe pages[$0] != nil }
        return unsafe 2 * Self.pagesPerWindow * MemoryLayout<Page?>.stride + taken * (Self.wordsPerPage + 1) * 8
    }

    private mutating func page(of window: UInt64, _ sequence: UInt64) -> Page {
        let table = unsafe pages ?? newTable()
        let inWindow = Int(sequence >> Self.pageShift) & (Self.pagesPerWindow - 1)
        let slot = Int(window & 1) * Self.pagesPerWindow + inWindow
        if let page = unsafe table[slot] { return unsafe page }
        let page = Page.allocate(capacity: Self.wordsPerPage + 1)
        unsafe page.initialize(repeating: 0, count: Self.wordsPerPage + 1)
        unsafe page[Self.tagIndex] = window
        unsafe table[slot] = page
        return unsafe page
    }

    private mutating func newTable() -> UnsafeMutablePointer<Page?> {
        let table = UnsafeMutablePointer<Page?>.allocate(capacity: 2 * Self.pagesPerWindow)
        unsafe table.initialize(repeating: nil, count: 2 * Self.pagesPerWindow)
        unsafe pages = table
        return unsafe table
    }
}
