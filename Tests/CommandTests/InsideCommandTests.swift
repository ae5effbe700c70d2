import Foundation
import Testing

/// `kvmclock inside`, on a record in a file in the place of the host's.
@Suite struct InsideCommandTests {
  let folder: Folder

  init() throws { folder = try Folder() }

  /// A record as it lies in memory.
  private func write(
    _ name: String, version: UInt32, systemTime: UInt64, multiplier: UInt32 = 1 << 31,
    flags: UInt8
  ) throws {
    var bytes: [UInt8] = []
    func append(_ value: UInt64, _ count: Int) {
      bytes += (0..<count).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) }
    }
    append(UInt64(version), 8)
    append(0, 8)
    append(systemTime, 8)
    append(UInt64(multiplier), 4)
    append(0, 1)
    append(UInt64(flags), 1)
    append(0, 2)
    try Data(bytes).write(to: URL(filePath: "\(folder.path)/\(name)"))
  }

  private func run(_ script: String) throws -> Child { try Child(script, in: folder) }

  @Test(arguments: [
    ("--exec true", "--exec needs --watch"), ("--prometheus x", "--prometheus needs --watch"),
    ("--watch --format html", "--watch writes text"),
    ("--watch --history x", "--watch judges no rules"), ("--watch --interval 0", "--interval is"),
    ("--for soon", "--for"),
  ])
  func wrongOptionsAreUsage(_ options: String, _ complaint: String) throws {
    try run("exec \"$K\" inside \(options)").expect(64, complaint)
  }

  @Test func aRecordThatIsNoFileIsAnError() throws {
    try run("exec \"$K\" inside --record nowhere").expect(66, "nowhere")
  }

  @Test func aBrokenRecordIsShownKeptAndJudgedAgain() throws {
    try write("record", version: 2, systemTime: 5, flags: 0x85)
    let child = try run("exec \"$K\" inside --record record --for 1s --history out")
    child.expect(1)
    #expect(child.output.contains("NOT SOUND"))
    #expect(child.output.contains("BROKEN        FLAGS-RESERVED-ZERO"))
    #expect(!child.output.contains("repeat:"))
    let again = try run("exec \"$K\" check out/inside.1.kvmclock.jsonl")
    again.expect(1)
    #expect(again.output.contains("BROKEN        FLAGS-RESERVED-ZERO"))
    #expect(!again.output.contains("SETCLOCK"))
  }

  @Test func aPauseIsReportedCountedAndTold() throws {
    try write("record", version: 2, systemTime: 50_000_000_000, flags: 1)
    try write("later", version: 4, systemTime: 47_000_000_000, flags: 3)
    let child = try run(
      """
      "$K" inside --watch --record record --for 2s --interval 20 --format json \
        --prometheus figures --exec 'echo $KVMCLOCK_EVENT $KVMCLOCK_STOOD_STILL_NS $KVMCLOCK_TOLD > told' &
      sleep 1
      dd if=later of=record conv=notrunc status=none
      wait $!
      """)
    child.expect(0)
    let lines = child.output.split(separator: "\n")
    #expect(lines.count == 1)
    let event = try #require(
      try JSONSerialization.jsonObject(with: Data(lines[0].utf8)) as? [String: Any])
    #expect(event["event"] as? String == "stopped")
    #expect(event["stood_still_ns"] as? Int == 3_000_000_000)
    #expect(event["told"] as? String == "yes")
    #expect(try folder.read("told") == "stopped 3000000000 yes\n")
    let figures = try folder.read("figures")
    #expect(figures.contains("kvmclock_inside_events_total{kind=\"stopped\"} 1\n"))
    #expect(figures.contains("kvmclock_inside_stood_still_seconds_total 3.000000000\n"))
    #expect(figures.contains("kvmclock_inside_running 0\n"))
  }

  @Test func aSignalEndsAWatchWithoutATime() throws {
    try write("record", version: 2, systemTime: 5, flags: 1)
    let child = try run(
      """
      "$K" inside --watch --record record & sleep 0.5; kill -TERM $!; wait $!
      """)
    #expect(child.code == 0)
    #expect(child.output.contains("0 events"))
  }
}
