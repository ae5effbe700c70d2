public import ABIChecker
internal import FoundationEssentials

/// A report that was read from a file: what comparing needs of it.
public struct SavedReport: Hashable, Sendable {
  public var path: String
  public var kvmclock: String
  public var hostname: String?
  public var host: HostFacts
  public var seed: UInt64?
  public var counts: ReportDocument.Counts
  public var verdicts: [Entry]
  /// Why no guest runs on this host, if so.
  public var noGuestRuns: String?

  /// Whether it says nothing of the clock: no rule was tested.
  var isEmpty: Bool { noGuestRuns == nil && verdicts.allSatisfy { $0.verdict == .notTested } }

  public struct Entry: Hashable, Sendable, Codable {
    public var rule: String
    public var topic: String?
    public var statement: String?
    public var verdict: Status
    public var summary: String
    /// The scenario whose history decided.
    public var scenario: String
    public var violations: [Proof]?
  }

  public struct Proof: Hashable, Sendable, Codable {
    public var seen: String
  }
}

extension SavedReport {
  public static let largestFile = 1 << 26
  public static let mostVerdicts = 10_000

  /// What every version of the format begins with.
  private struct Preamble: Decodable {
    var format: String
    var version: Int
  }

  private struct Document: Decodable {
    var kvmclock: String
    var hostname: String?
    var host: HostFacts
    var seed: UInt64?
    var counts: ReportDocument.Counts
    var verdicts: [Entry]
    var noGuestRuns: String?
  }

  /// Reads a report that `--output FILE.json` wrote, and trusts nothing in it.
  ///
  /// - Throws: `FileError` naming the file and what is wrong with it.
  public static func read(_ path: String) throws(FileError) -> SavedReport {
    let data = Data(try WholeFile.read(path, atMost: largestFile))
    let decoder = JSONDecoder()
    let preamble: Preamble
    do { preamble = try decoder.decode(Preamble.self, from: data) } catch {
      throw problem(path, "not a report of kvmclock: \(DecodingProblem.sentence(error))")
    }
    guard preamble.format == ReportDocument.formatName else {
      let remedy =
        preamble.format == Header.formatName
        ? ": make one of it with `check --output FILE.json`" : ""
      throw problem(
        path, "the format is \"\(preamble.format)\", not \"\(ReportDocument.formatName)\"\(remedy)")
    }
    guard (1...ReportDocument.currentVersion).contains(preamble.version) else {
      throw problem(
        path,
        "of format version \(preamble.version), and this kvmclock reads up to "
          + "\(ReportDocument.currentVersion): update kvmclock")
    }
    do {
      let document = try decoder.decode(Document.self, from: data)
      guard document.verdicts.count <= mostVerdicts else {
        throw problem(path, "more than \(mostVerdicts) verdicts")
      }
      return SavedReport(
        path: path, kvmclock: document.kvmclock, hostname: document.hostname, host: document.host,
        seed: document.seed, counts: document.counts, verdicts: document.verdicts,
        noGuestRuns: document.noGuestRuns)
    } catch let error as FileError {
      throw error
    } catch {
      throw problem(path, DecodingProblem.sentence(error))
    }
  }

  private static func problem(_ path: String, _ cause: String) -> FileError {
    FileError(.badData, path: path, cause: Plain.oneLine(cause, limit: 400))
  }
}
