import Testing
import WeaveCore

@Suite("Bytes") struct BytesTests {
    @Test("a reader gives big-endian fields one after the other")
    func fields() {
        var reader = ByteReader([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0xaa, 0xbb])
        #expect(reader.readUInt8() == 1)
        #expect(reader.readUInt16() == 0x0203)
        #expect(reader.readUInt32() == 0x0405_0607)
        #expect(reader.readUInt64() == 0x0809_0a0b_0c0d_0e0f)
        #expect(reader.remaining == 2)
        #expect(reader.rest == [0xaa, 0xbb])
        #expect(reader.readBytes(2) == [0xaa, 0xbb])
        #expect(reader.readUInt8() == nil)
    }

    @Test("a read that fails leaves the reader where it was")
    func failing() {
        var reader = ByteReader([1, 2, 3])
        #expect(reader.readUInt32() == nil)
        #expect(reader.readUInt64() == nil)
        #expect(reader.readPeerName() == nil)
        #expect(reader.readBytes(4) == nil)
        #expect(reader.readBytes(-1) == nil)
        #expect(reader.readInteger(-1) == nil)
        #expect(reader.readInteger(9) == nil)
        #expect(reader.readInteger(0) == 0)
        #expect(reader.remaining == 3)
        #expect(reader.readInteger(3) == 0x010203)
    }

    @Test("a reader of a slice begins at its beginning, and one of another collection reads a copy")
    func slices() {
        let bytes: [UInt8] = [9, 9, 1, 2, 9]
        var ofSlice = ByteReader(bytes[2..<4])
        #expect(ofSlice.readUInt16() == 0x0102)
        #expect(ofSlice.remaining == 0)
        var ofText = ByteReader("ab".utf8)
        #expect(ofText.readUInt16() == 0x6162)
    }

    @Test("a name is read as six bytes")
    func name() {
        var reader = ByteReader([0x7a, 0, 0, 0, 0, 1, 5])
        #expect(reader.readPeerName()?.description == "7a:00:00:00:00:01")
        #expect(reader.remaining == 1)
    }

    @Test("integers are appended most significant byte first")
    func appending() {
        var bytes: [UInt8] = []
        bytes.appendInteger(0x0102_0304 as UInt32, byteCount: 4)
        bytes.appendInteger(0xabcd_ef01 as UInt64, byteCount: 2)
        bytes.appendInteger(-1, byteCount: 3)
        #expect(bytes == [1, 2, 3, 4, 0xef, 0x01, 0xff, 0xff, 0xff])
    }

    @Test("hex goes both ways, and what is no hex is refused")
    func hex() {
        #expect([UInt8](hex: "00fF7a") == [0, 0xff, 0x7a])
        #expect([UInt8](hex: "") == [])
        #expect([0, 0xff, 0x7a].hex == "00ff7a")
        for text in ["0", "0g", "zz", " 0", "é"] { #expect([UInt8](hex: text) == nil) }
    }
}
