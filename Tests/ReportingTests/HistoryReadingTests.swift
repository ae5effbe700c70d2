import ABIChecker
import Foundation
import Testing

@testable import Reporting

@Suite struct HistoryReadingTests {
  let folder: Folder

  init() throws { folder = try Folder() }

  static let badLines: [(line: String, complaint: String)] = [
    ("", "the line is empty"),
    ("nonsense", "not valid JSON"),
    ("[1,2]", "Dictionary"),
    (#"{"n":1}"#, #""tsc" is missing"#),
    (Samples.eventLine(2), "the event's number is 2 where 1 is due"),
    (
      Samples.eventLine(1, did: #"{"danced":{}}"#), "at did: not an action that this kvmclock knows"
    ),
    (Samples.eventLine(1, did: #"{"vcpuCreated":{"vcpu":"x"}}"#), "at did.vcpuCreated.vcpu: "),
    (Samples.eventLine(1, did: #"{"vcpuCreated":{"vcpu":1.5}}"#), "a number out of its range"),
    (Samples.eventLine(1, did: #"{"tscKHz":{"vcpu":0,"kHz":-1}}"#), "a number out of its range"),
    (
      Samples.eventLine(1, did: #"{"hostReadMSR":{"vcpu":0,"msr":"12","value":"0x0"}}"#),
      "not a hexadecimal number: 12"
    ),
    (#"{"by":"guest","did":{"tick":{}},"n":1,"raw":[1,2],"tsc":[3,4]}"#, #"not "guest""#),
    (#"{"by":"vcpu-1","did":{"tick":{}},"n":1,"raw":[1,2],"tsc":[3,4]}"#, #"not "vcpu-1""#),
    (#"{"by":"host","did":{"tick":{}},"n":1,"raw":[2,1],"tsc":[3,4]}"#, "the earlier one first"),
    (#"{"by":"host","did":{"tick":{}},"n":1,"raw":[1],"tsc":[3,4]}"#, "each two numbers"),
  ]

  @Test(arguments: badLines)
  func aBadLineIsNamedWithWhatIsWrong(line: String, complaint: String) throws {
    let text = "\(Samples.headerLine)\n\(line)\n\(Samples.eventLine(2))\n"
    let path = try folder.file("bad.jsonl", text)
    expect(path, .badData, line: 2, complaint)
  }

  static let badHeaders: [(String, String)] = [
    ("nonsense\n", "not the header of a history of kvmclock: "),
    ("{}\n", #"not the header of a history of kvmclock: "format" is missing"#),
    (
      Samples.headerLine.replacing("kvmclock-history", with: "notes") + "\n",
      #"the format is "notes", not "kvmclock-history""#
    ),
    (
      #"{"format":"kvmclock-history","version":99}"# + "\n",
      "written by a newer kvmclock (format version 99, this one reads up to 7): update kvmclock"
    ),
    (#"{"format":"kvmclock-history","version":0}"# + "\n", "there is no version 0"),
    (#"{"format":"kvmclock-history","version":1}"# + "\n", " is missing"),
    (Samples.headerLine.replacing("\"seed\":7", with: "\"seed\":-7"), "a number out of its range"),
  ]

  @Test(arguments: badHeaders)
  func aBadHeaderIsNamedWithWhatIsWrong(header: String, complaint: String) throws {
    expect(try folder.file("bad.jsonl", header), .badData, line: 1, complaint)
  }

  @Test func anEmptyFileIsNamed() throws {
    expect(try folder.file("empty.jsonl", ""), .badData, line: nil, "the file is empty")
  }

  @Test func bytesThatAreNotUTF8AreNamed() throws {
    let bytes = Array("\(Samples.headerLine)\n".utf8) + [0x7b, 0xff, 0xfe, 0x7d, 0x0a]
    expect(try folder.file("bad.jsonl", bytes), .badData, line: 2, "not UTF-8")
  }

  @Test func aLineLongerThanAMebibyteIsRefusedBeforeItIsDecoded() throws {
    let long = String(repeating: " ", count: LineReader.longestLine + 1)
    for end in ["", "\n"] {
      let path = try folder.file("long.jsonl", "\(Samples.headerLine)\n\(long)\(end)")
      expect(path, .badData, line: 2, "longer than 1048576 bytes")
    }
    expect("/dev/zero", .badData, line: 1, "longer than 1048576 bytes")
  }

  @Test func aLineOfExactlyAMebibyteIsRead() throws {
    let event = Samples.eventLine(1)
    let padding = String(repeating: " ", count: LineReader.longestLine - event.utf8.count)
    let path = try folder.file("wide.jsonl", "\(Samples.headerLine)\n\(event)\(padding)\n")
    #expect(try HistoryFile.read(path).history.events.count == 1)
  }

  @Test(arguments: ["[", #"{"a":"#])
  func deepNestingIsRefusedAndDoesNotOverflowTheStack(opening: String) throws {
    let deep = String(repeating: opening, count: 100_000)
    let path = try folder.file("deep.jsonl", "\(Samples.headerLine)\n\(deep)\n")
    expect(path, .badData, line: 2, "not valid JSON")
  }

  @Test func aDirectoryAndAMissingFileAreUnreadable() {
    expect(folder.path, .unreadable, line: nil, "Is a directory; name a file in it")
    expect(folder.path + "/none", .unreadable, line: nil, "No such file or directory")
  }

  @Test(arguments: 1...Samples.eventLine(2).utf8.count)
  func aHistoryThatIsCutOffKeepsTheEventsBeforeTheCut(missing: Int) throws {
    let whole = "\(Samples.headerLine)\n\(Samples.eventLine(1))\n\(Samples.eventLine(2))\n"
    let path = try folder.file("cut.jsonl", Array(whole.utf8.dropLast(missing)))
    let saved = try HistoryFile.read(path)
    // Without its end even a complete last line may not be the last one that was written.
    #expect(saved.history.events.map(\.number) == (missing == 1 ? [1, 2] : [1]))
    #expect(saved.truncated == "\(path) is cut off in line 3")
  }

  @Test func aHistoryThatIsCutOffCannotShowThatARuleHolds() throws {
    let page = #"{"page":{"vcpu":0,"address":"0x0","page":\#(Self.page(version: 2))}}"#
    let events = (1...4).map { Samples.eventLine($0, did: page) }.joined(separator: "\n")
    let rule = try #require(Rule.named("VERSION-EVEN"))
    let whole = try HistoryFile.read(
      folder.file("whole.jsonl", "\(Samples.headerLine)\n\(events)\n{\"endsAfter\":4}\n"))
    guard case .holds = rule.judge(whole.judged) else {
      Issue.record("the whole history gives \(rule.judge(whole.judged))")
      return
    }
    let cut = try HistoryFile.read(
      folder.file("cut.jsonl", "\(Samples.headerLine)\n\(events)\n{\"n\":"))
    #expect(rule.judge(cut.judged).isInconclusive)
    #expect(rule.judge(cut.history) == rule.judge(whole.history))
  }

  @Test func aHistoryWithoutItsEndIsCutOffThoughItsLastLineIsWhole() throws {
    let text = "\(Samples.headerLine)\n\(Samples.eventLine(1))\n"
    let path = try folder.file("cut.jsonl", text)
    #expect(try HistoryFile.read(path).truncated == "\(path) is cut off after event 1")
    // Formats before the sixth had no end.
    let old = try folder.file("old.jsonl", text.replacing("\"version\":7", with: "\"version\":5"))
    #expect(try HistoryFile.read(old).truncated == nil)
  }

  /// Before the seventh format a value without a label was `_0`, and no run stood in the header.
  @Test(arguments: 2...6) func olderFormatsAreRead(version: Int) throws {
    let header = Samples.headerLine.replacing("\"version\":7", with: "\"version\":\(version)")
    let event = Samples.eventLine(1, did: #"{"xenUnstableSet":{"_0":true}}"#)
    let end = version < 6 ? "" : "{\"endsAfter\":1}\n"
    let saved = try HistoryFile.read(folder.file("old.jsonl", "\(header)\n\(event)\n\(end)"))
    #expect(saved.history.events.map(\.action) == [.xenUnstableSet(true)])
    #expect(saved.truncated == nil && saved.history.header.run == nil)
  }

  @Test(arguments: [
    ("{\"endsAfter\":2}\n", 3, "the history ended after 2 events, and 1 are there"),
    ("{\"endsAfter\":-1}\n", 3, "the history ended after -1 events"),
    ("{\"endsAfter\":\"1\"}\n", 3, "at endsAfter: "),
    ("{\"endsAfter\":1}\n\(Samples.eventLine(2))\n", 4, "a line follows the end of the history"),
  ])
  func aWrongEndIsNamed(end: String, line: Int, complaint: String) throws {
    let text = "\(Samples.headerLine)\n\(Samples.eventLine(1))\n\(end)"
    expect(try folder.file("end.jsonl", text), .badData, line: line, complaint)
  }

  @Test func aHostileTextCannotMoveTheCursorOfWhoReadsTheError() throws {
    let text = Samples.headerLine.replacing("kvmclock-history", with: #"\u001b[2J\n\u202e"#)
    let error = #expect(throws: FileError.self) {
      try HistoryFile.read(folder.file("bad.jsonl", text + "\n"))
    }
    let scalars = (error?.description ?? "\n").unicodeScalars
    #expect(!scalars.contains { $0.value < 0x20 || $0.value == 0x202e })
  }

  static func page(version: Int) -> String {
    """
    {"flags":1,"pad":0,"pad0":0,"system_time":5,"tsc_shift":-1,"tsc_timestamp":6,\
    "tsc_to_system_mul":2147483648,"version":\(version)}
    """
  }

  private func expect(
    _ path: String, _ kind: FileError.Kind, line: Int?, _ complaint: String,
    at location: SourceLocation = #_sourceLocation
  ) {
    let error = #expect(throws: FileError.self, sourceLocation: location) {
      try HistoryFile.read(path)
    }
    let place = line.map { "\(path):\($0): " } ?? "\(path): "
    #expect(error?.kind == kind, sourceLocation: location)
    #expect(error?.line == line, sourceLocation: location)
    #expect(error?.description.hasPrefix(place) == true, sourceLocation: location)
    #expect(error?.description.contains(complaint) == true, sourceLocation: location)
  }
}
