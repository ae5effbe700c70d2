import ABIChecker
import Foundation
import HostModel
import Reporting
import Testing

/// What a report says of how to see a broken rule again has to work: a rule may break in a scenario that is not its own.
@Suite(.enabled(if: Host.hasKVM, Host.reason), .serialized)
struct RepeatTests {
  let folder: Folder

  init() throws { folder = try Folder() }

  /// Runs what a report says of each broken rule.
  ///
  /// What was seen by luck, in a race or because another job held a step up, may go well again, or not be seen at all in a
  /// scenario that is not the rule's own: such a rule is one of the new run, and no more than that.
  ///
  /// - Parameter certain: the rules that are broken in each run.
  private func repeatAll(of report: String, certain: Set<String>) throws {
    let broken = try read(report).verdicts.filter { $0.again != nil }
    #expect(certain.isSubset(of: broken.map(\.rule)))
    for entry in broken {
      let command = entry.again ?? ""
      #expect(command.hasPrefix("kvmclock run \(entry.rule) "))
      let arguments = command.dropFirst("kvmclock".count)
      _ = try Child("exec \"$K\"\(arguments) --output again.json -q", in: folder)
      let again = try read("again.json").verdicts.first { $0.rule == entry.rule }?.verdict
      #expect(again != nil, "\(command)")
      #expect(again == entry.verdict || !certain.contains(entry.rule), "\(command)")
    }
  }

  private func read(_ report: String) throws -> ReportDocument {
    try JSONDecoder().decode(ReportDocument.self, from: Data(try folder.read(report).utf8))
  }

  @Test func eachRuleThatInterferenceBreaksIsBrokenAgain() throws {
    try Child("exec \"$K\" run --host interference --output a.json -q", in: folder).expect(1)
    try repeatAll(
      of: "a.json",
      certain: ["SYSTIME-REWRITE-KEEPS-TIME", "REPLUG-VCPU0-KEEPS-TIME", "REWRITER-KEEPS-TIME"])
  }

  @Test(arguments: [
    "RESTART-ON-VCPU0", "FREQUENCY-IN-MHZ", "VERSION-LEFT-ODD", "PAD-KEPT", "FLAGS-KEPT",
    "NO-STABLE-FLAG", "SETCLOCK-VCPU0-ONLY", "WALL-16-BYTES", "INIT-IGNORED", "BYTES-33",
  ])
  func eachRuleThatAFaultBreaksIsBrokenAgain(name: String) throws {
    let fault = try #require(Fault.all.first { $0.id == name })
    // All rules that its rules' scenarios can judge: more lines than its own.
    let scenarios = Set(fault.rules.compactMap(Rule.named).flatMap(\.scenarios)).map(\.rawValue)
    let chosen = scenarios.sorted().map { "--scenario \($0)" }.joined(separator: " ")
    _ = try Child(
      "exec \"$K\" run \(chosen) --fault \(name) --vcpus 4 --output a.json -q", in: folder)
    try repeatAll(of: "a.json", certain: Set(fault.rules))
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
