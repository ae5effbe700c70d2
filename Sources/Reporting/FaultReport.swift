public import ABIChecker

/// The table of faults, for people.
public enum FaultReport {
  /// One line a fault as soon as it was run.
  public static func line(_ fault: FaultResult) -> String {
    var text =
      "\(Plain.pad(word(fault), to: 8))  \(Plain.pad(fault.id, to: 30))  \(fault.expected.joined(separator: " "))"
    if !fault.missed.isEmpty { text += "; not \(fault.missed.joined(separator: " "))" }
    let also = fault.broke.filter { fault.also.contains($0) }
    if !also.isEmpty { text += "; also \(also.joined(separator: " ")): \(fault.reason)" }
    if !fault.unexplained.isEmpty {
      text += "; UNEXPLAINED \(fault.unexplained.joined(separator: " "))"
    }
    return text + "\n" + String(repeating: " ", count: 10) + fault.meaning + "\n"
  }

  public static func line(_ graded: GradedResult) -> String {
    let smallest = graded.smallest.map { "down to \($0) \(graded.unit)" } ?? "not even the largest"
    return
      "\(Plain.pad(graded.isAsExpected ? "caught" : "MISSED", to: 8))  \(Plain.pad(graded.id, to: 30))  "
      + "\(graded.rules.joined(separator: " ")) \(smallest) of \(graded.sizes.map(String.init).joined(separator: ", "))"
      + "\n" + String(repeating: " ", count: 10) + graded.meaning + "\n"
  }

  /// One line for one that went as it must; more for one that did not.
  public static func line(_ harness: HarnessResult) -> String {
    let head =
      "\(Plain.pad(harness.isAsExpected ? "verdict" : "WRONG", to: 8))  \(Plain.pad(harness.id, to: 30))  "
    let text: String
    switch harness.outcome {
    case .inconclusive(let reason), .notTested(let reason): text = reason
    case .broken(let violations): text = "broken: \(violations.first?.seen ?? "")"
    case .holds(let evidence, _), .observed(let evidence): text = "HOLDS: \(evidence)"
    }
    return head + Plain.oneLine(text)
      + (harness.holdsAfterwards ? "" : "; and the next run suffers") + "\n"
  }

  /// What all of it comes to.
  public static func summary(_ table: FaultTable) -> String {
    let caught = table.faults.filter(\.isCaught).count
    let unexplained = table.faults.filter { !$0.unexplained.isEmpty }.count
    let graded = table.graded.filter(\.isAsExpected).count
    return
      "\(table.faults.count) faults: \(caught) caught by every rule that must, "
      + "\(table.faults.count - caught) missed, \(unexplained) break something unexplained; "
      + "\(graded) of \(table.graded.count) graded ones as fine as they must be; "
      + "\(table.harness.filter(\.isAsExpected).count) of \(table.harness.count) faults of guests, threads and KVM_RUN "
      + "end in a verdict\n"
  }

  private static func word(_ fault: FaultResult) -> String { fault.isCaught ? "caught" : "MISSED" }
}
