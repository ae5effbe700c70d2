public import ABIChecker
internal import FoundationEssentials

/// All that is known of a soak: what its checkpoint holds.
public struct SoakState: Hashable, Sendable, Codable {
  public static let formatName = "kvmclock-soak"
  public static let currentVersion = 1

  public private(set) var format = Self.formatName
  public private(set) var formatVersion = Self.currentVersion
  /// Of kvmclock.
  public var version: String
  public var host: HostFacts
  /// The machine's name, and when the soak began, as "2026-11-25T02:35:00Z".
  public var hostname: String?
  public var date: String?
  public var device: String
  /// Seed of the whole; that of a round is larger by its number.
  public var seed: UInt64
  /// The rules to be judged.
  public var rules: [String]
  public private(set) var rounds: UInt64 = 0
  /// Runs of a scenario beyond its first in a round.
  public private(set) var retries: UInt64 = 0
  /// Nanoseconds of running, resumed runs included.
  public var elapsed: UInt64 = 0
  /// When this was so, in seconds since 1970.
  public var written: UInt64 = 0
  /// Whether the soak came to its end; one that was killed did not.
  public var isFinished = false
  /// Machines whose drift could be followed no longer because the master clock got a new pair.
  public var newPairs = 0
  public var statistics = SoakStatistics()
  /// Nil in a new soak, and in a checkpoint of an older kvmclock.
  private(set) var course: SoakCourse?
  public private(set) var tallies: [RuleTally] = []
  /// The files of the rounds that broke a rule, by scenario; of each scenario the first.
  public var files: [String: [String]] = [:]

  public init(
    version: String, host: HostFacts, device: String, seed: UInt64, rules: [String]
  ) {
    self.version = version
    self.host = host
    self.device = device
    self.seed = seed
    self.rules = rules
  }

  public mutating func add(_ verdicts: [Verdict], retries: Int) {
    rounds &+= 1
    self.retries &+= UInt64(max(0, retries))
    for verdict in verdicts { add(verdict) }
    guard let drift = statistics.drift else { return }
    var course = course ?? SoakCourse()
    course.add(drift, at: elapsed)
    self.course = course
  }

  private mutating func add(_ verdict: Verdict) {
    if let place = tallies.firstIndex(where: { $0.rule == verdict.rule }) {
      tallies[place].add(verdict, round: rounds)
    } else {
      tallies.append(RuleTally(verdict, round: rounds))
    }
  }

  /// How many rules were broken, known deviations not counted.
  public var broken: Int {
    tallies.count { $0.verdict.known == nil && $0.verdict.outcome.isBroken }
  }
}

extension SoakState {
  /// Writes a checkpoint so that the path holds all of it or what it held before.
  ///
  /// - Throws: `FileError` naming the path, the cause and a remedy.
  public func write(to path: String) throws(FileError) {
    try ReportFile.write(JSONText.pretty(self), to: path)
  }

  /// Reads a checkpoint, and trusts nothing in it.
  ///
  /// - Throws: `FileError` naming the file and what is wrong there.
  public static func read(_ path: String) throws(FileError) -> SoakState {
    var reader = try LineReader(path)
    var bytes: [UInt8] = []
    while let line = try reader.next() {
      bytes += line.bytes + [UInt8(ascii: "\n")]
      guard bytes.count <= 1 << 24 else {
        throw FileError(.badData, path: path, cause: "larger than any checkpoint of kvmclock soak")
      }
    }
    let preamble: Preamble
    do { preamble = try JSONDecoder().decode(Preamble.self, from: Data(bytes)) } catch {
      throw FileError(.badData, path: path, cause: "not a checkpoint of kvmclock soak")
    }
    guard preamble.format == formatName, preamble.formatVersion <= currentVersion else {
      let cause =
        preamble.format == formatName
        ? "written by a newer kvmclock (format version \(preamble.formatVersion))"
        : "not a checkpoint of kvmclock soak"
      throw FileError(.badData, path: path, cause: cause)
    }
    do {
      let state = try JSONDecoder().decode(SoakState.self, from: Data(bytes))
      guard state.statistics.isSound, state.course?.isSound ?? true else { throw Unsound() }
      return state
    } catch {
      throw FileError(
        .badData, path: path, cause: Plain.oneLine("a damaged checkpoint: \(error)", limit: 400))
    }
  }

  private struct Preamble: Decodable {
    var format: String
    var formatVersion: Int
  }

  private struct Unsound: Error {}
}
