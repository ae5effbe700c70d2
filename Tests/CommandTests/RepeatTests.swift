import ABIChecker
import Foundation
import Reporting
import Testing

/// What a report says of how to see a broken rule again has to work: a rule may break in a scenario that is not its own.
@Suite(.enabled(if: Host.hasKVM, Host.reason), .serialized)
struct RepeatTests {
  let folder: Folder

  init() throws { folder = try Folder() }

  /// The commands that a report names, by rule, each once more in a shell.
  ///
  /// - Parameter most: how many, evenly spread over the report.
  private func repeatAll(of report: String, most: Int = .max) throws -> [String: Bool] {
    let saved = try JSONDecoder().decode(
      ReportDocument.self, from: Data(try folder.read(report).utf8))
    var broke: [String: Bool] = [:]
    let broken = saved.verdicts.filter { $0.verdict == .broken }
    let stride = max(1, broken.count / most)
    for (place, entry) in broken.enumerated() where place % stride == 0 {
      let command = try #require(entry.again)
      #expect(command.hasPrefix("kvmclock run \(entry.rule) "))
      let arguments = command.dropFirst("kvmclock".count)
      broke[entry.rule] = try (0..<3).contains { _ in
        try Child("exec \"$K\"\(arguments) -q", in: folder).code == 1
      }
    }
    return broke
  }

  @Test func eachRuleThatInterferenceBreaksIsBrokenAgain() throws {
    try Child("exec \"$K\" run --host interference --output a.json -q", in: folder).expect(1)
    let broke = try repeatAll(of: "a.json")
    #expect(broke.count > 10)
    #expect(broke.filter { !$0.value }.isEmpty, "not repeated")
  }

  @Test(arguments: [
    "RESTART-ON-VCPU0", "FREQUENCY-IN-MHZ", "VERSION-LEFT-ODD", "PAD-KEPT", "FLAGS-KEPT",
    "NO-STABLE-FLAG", "SETCLOCK-VCPU0-ONLY", "WALL-1-US-OFF", "INIT-IGNORED", "BYTES-33",
  ])
  func eachRuleThatAFaultBreaksIsBrokenAgain(fault: String) throws {
    let child = try Child("exec \"$K\" run --fault \(fault) --output a.json -q", in: folder)
    child.expect(1)
    let broke = try repeatAll(of: "a.json", most: 4)
    #expect(!broke.isEmpty)
    #expect(broke.filter { !$0.value }.isEmpty, "not repeated")
  }

  /// `check` left out --host.
  @Test func aHistorySaysHowItWasRecorded() throws {
    let run = try Child(
      """
      "$K" run SYSTIME-REWRITE-KEEPS-TIME --host interference --seed 5 --history h >/dev/null
      exec "$K" check h
      """, in: folder)
    run.expect(1)
    #expect(
      run.output.contains(
        "repeat:   kvmclock run SYSTIME-REWRITE-KEEPS-TIME --seed 5 --host interference\n"))
  }
}
