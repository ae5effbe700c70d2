internal import ABIChecker

/// Workflow commands of GitHub Actions: what fails as errors, what could not be decided as warnings.
public struct GitHubAnnotations: Sendable {
  public var report: Report

  public init(_ report: Report) { self.report = report }

  public var text: String {
    let digest = Digest(report)
    let errors = digest.failed.map { verdict -> String in
      guard case .broken(let violations) = verdict.outcome, let first = violations.first else {
        return ""
      }
      let again = report.repeatCommand(verdict).map { "; repeat: \($0)" } ?? ""
      return line(
        "error", verdict.rule, "expected \(first.expected); seen \(first.seen)\(again)")
    }
    let warnings = digest.verdicts(.inconclusive).map {
      line("warning", $0.rule, "inconclusive: \($0.outcome.summary)")
    }
    let lost = report.noGuestRuns.map { [line("error", "no guest runs", $0)] } ?? []
    return (lost + errors + warnings).joined()
  }

  private func line(_ kind: String, _ title: String, _ message: String) -> String {
    "::\(kind) title=kvmclock \(Self.escape(title, ":,"))::\(Self.escape(message))\n"
  }

  /// As the runner's own toolkit escapes: `%` always, and in a property what would end it.
  private static func escape(_ text: String, _ more: String = "") -> String {
    Plain.oneLine(text).map { character in
      character == "%" || more.contains(character)
        ? "%" + String(character.asciiValue ?? 0, radix: 16, uppercase: true) : "\(character)"
    }.joined()
  }
}
