public import ABIChecker

/// A format that can be written while a run goes on.
protocol VerdictWriter {
  func head(_ report: Report) -> String
  mutating func add(_ verdict: Verdict, in report: Report) -> String
  mutating func tail(_ report: Report) -> String
}

/// A report that is written verdict by verdict, as each becomes final.
public final class VerdictStream {
  private var writer: any VerdictWriter
  private let write: (String) throws -> Void
  /// Why something could not be written; nothing follows it.
  public private(set) var failure: (any Error)?

  /// Nil for formats that are written in one piece.
  public init?(
    _ format: ReportFormat, rules: [String], style: ReportStyle,
    write: @escaping (String) throws -> Void
  ) {
    switch format {
    case .ktap: writer = KTAPWriter(rules: rules, style: style)
    case .jsonl: writer = JSONLinesWriter()
    case .text, .junit, .json, .markdown, .html: return nil
    }
    self.write = write
  }

  public func begin(_ report: Report) { send(writer.head(report)) }

  public func add(_ verdict: Verdict, in report: Report) { send(writer.add(verdict, in: report)) }

  public func end(_ report: Report) { send(writer.tail(report)) }

  private func send(_ text: String) {
    guard failure == nil else { return }
    do { try write(text) } catch { failure = error }
  }
}

/// A report as JSON Lines: the run, then one verdict a line, then what all come to.
public struct JSONLinesReport: Sendable {
  public var report: Report

  public init(_ report: Report) { self.report = report }

  public var text: String {
    let writer = JSONLinesWriter()
    return writer.head(report) + report.verdicts.map { writer.add($0, in: report) }.joined()
      + writer.tail(report)
  }
}

/// Each line has what `ReportDocument` has under the same names.
struct JSONLinesWriter: VerdictWriter {
  private struct Head: Encodable {
    var format = "kvmclock-verdicts"
    var version = 1
    var kvmclock: String
    var hostname: String?
    var date: String?
    var host: HostFacts
    var seed: UInt64?
    var planned: Int
  }

  private struct Tail: Encodable {
    var counts: ReportDocument.Counts
    var exitStatus: Int32
    var nanoseconds: UInt64?
    var interruption: String?
    var noGuestRuns: String?
    var notes: [String]
  }

  func head(_ report: Report) -> String {
    JSONText.line(
      Head(
        kvmclock: report.version, hostname: report.hostname, date: report.date, host: report.host,
        seed: report.seed, planned: report.planned)) + "\n"
  }

  func add(_ verdict: Verdict, in report: Report) -> String {
    JSONText.line(ReportDocument.Entry(verdict, in: report)) + "\n"
  }

  func tail(_ report: Report) -> String {
    JSONText.line(
      Tail(
        counts: ReportDocument.Counts(report), exitStatus: report.exitCode,
        nanoseconds: report.nanoseconds, interruption: report.interruption,
        noGuestRuns: report.noGuestRuns, notes: report.notes)) + "\n"
  }
}
