import Foundation
import PVClock
import Testing

@Suite struct SavedFormTests {
  static func json(_ value: some Encodable) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    return String(decoding: try encoder.encode(value), as: UTF8.self)
  }

  static func read<Value: Decodable>(_: Value.Type, _ json: String) throws -> Value {
    try JSONDecoder().decode(Value.self, from: Data(json.utf8))
  }

  @Test func aPageIsSavedUnderTheKernelsNames() throws {
    let page = ClockPage(
      version: 4, pad0: 1, tscTimestamp: .max, systemTime: .max - 1,
      tscToSystemMultiplier: 0xc537_1140, tscShift: -1, flags: [.tscStable, .guestStopped], pad: 2)
    let json = """
      {"flags":3,"pad":2,"pad0":1,"system_time":18446744073709551614,"tsc_shift":-1,\
      "tsc_timestamp":18446744073709551615,"tsc_to_system_mul":3308720448,"version":4}
      """
    #expect(try Self.json(page) == json)
    #expect(try Self.read(ClockPage.self, json) == page)
  }

  @Test func aWallClockIsSavedUnderTheKernelsNames() throws {
    let clock = WallClock(version: 2, seconds: .max, nanoseconds: 999_999_999)
    let json = #"{"nsec":999999999,"sec":4294967295,"version":2}"#
    #expect(try Self.json(clock) == json)
    #expect(try Self.read(WallClock.self, json) == clock)
  }

  @Test func flagsAreSavedAsANumberWithEveryBit() throws {
    #expect(try Self.json([ClockPage.Flags.reserved]) == "[252]")
    #expect(try Self.read([ClockPage.Flags].self, "[255]") == [ClockPage.Flags(rawValue: 255)])
  }

  @Test func anyPageSurvivesTheRoundTrip() throws {
    var random = SeededGenerator()
    for _ in 0..<300 {
      let page = random.page()
      #expect(try Self.read(ClockPage.self, Self.json(page)) == page)
    }
  }

  @Test(arguments: [
    ("\"pad\":0,", ""), ("\"flags\":0", "\"flags\":256"), ("\"tsc_shift\":0", "\"tsc_shift\":128"),
  ])
  func aPageThatIsIncompleteOrOutOfRangeIsRefused(field: String, changed: String) throws {
    let json = try Self.json(ClockPage()).replacingOccurrences(of: field, with: changed)
    #expect(try json != Self.json(ClockPage()))
    #expect(throws: DecodingError.self) { try Self.read(ClockPage.self, json) }
  }
}
