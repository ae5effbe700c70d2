/// A rule that shipped kernels are known to break: where, why, and who says so.
public struct KnownDeviation: Hashable, Sendable, Codable {
  public var rule: String
  /// First kernel that breaks it; nil if always.
  public var since: KernelVersion?
  /// First kernel that no longer does; nil if not mended yet.
  public var until: KernelVersion?
  /// Whether it shows in every run on these kernels, or only under some condition that `cause` names.
  public var always = true
  /// The largest error that it excuses; nil where nothing is measured.
  public var bound: String?
  public var cause: String
  public var source: String

  /// - Parameter bound: the largest error that it excuses; nil where nothing is measured.
  public init(
    rule: String, since: KernelVersion? = nil, until: KernelVersion? = nil, always: Bool = true,
    bound: String? = nil, cause: String, source: String
  ) {
    self.rule = rule
    self.since = since
    self.until = until
    self.always = always
    self.bound = bound
    self.cause = cause
    self.source = source
  }

  /// The entry for a rule on a kernel (`uname -r`), if there is one.
  public static func of(
    rule: String, kernel: String?, in entries: [KnownDeviation] = table
  ) -> KnownDeviation? {
    guard let version = kernel.flatMap(KernelVersion.init(release:)) else { return nil }
    return entries.first {
      $0.rule == rule && ($0.since.map { $0 <= version } ?? true)
        && ($0.until.map { version < $0 } ?? true)
    }
  }

  /// The entry that an outcome calls for: one that explains why the rule is broken, or one that should have shown.
  static func of(rule: String, kernel: String?, _ outcome: Outcome) -> KnownDeviation? {
    guard let entry = of(rule: rule, kernel: kernel) else { return nil }
    switch outcome {
    case .broken(let violations):
      let fits = violations.allSatisfy { $0.fitsDeviation == true }
      return entry.bound == nil || fits ? entry : nil
    case .holds: return entry.always ? entry : nil
    default: return nil
    }
  }
}

extension Verdict {
  /// The verdict, excused where a user's own list names the rule on this kernel.
  public func excused(by own: [KnownDeviation], on kernel: String?) -> Verdict {
    guard status == .broken, let entry = KnownDeviation.of(rule: rule, kernel: kernel, in: own)
    else { return self }
    var verdict = self
    verdict.known = entry
    return verdict
  }
}

/// A rule that older kernels do not owe.
public struct Owed: Hashable, Sendable, Codable {
  public var rule: String
  /// First kernel that owes it.
  public var since: KernelVersion
  /// What older kernels do, and the commit that changed it.
  public var before: String

  /// The entry for a rule that this kernel (`uname -r`) does not owe.
  static func later(rule: String, kernel: String?) -> Owed? {
    guard let version = kernel.flatMap(KernelVersion.init(release:)) else { return nil }
    return table.first { $0.rule == rule && version < $0.since }
  }
}

/// The two numbers of a kernel release that order it.
public struct KernelVersion: Hashable, Sendable, Codable, Comparable, ExpressibleByStringLiteral,
  CustomStringConvertible
{
  public var major: Int
  public var minor: Int

  public init(_ major: Int, _ minor: Int) {
    self.major = major
    self.minor = minor
  }

  /// Reads the start of `uname -r`: "6.12.117-amd64" is 6.12.
  public init?(release: String) {
    let parts = release.split(separator: ".", maxSplits: 2)
    guard parts.count >= 2, let major = Int(parts[0]),
      let minor = Int(parts[1].prefix { $0.isNumber })
    else { return nil }
    self.init(major, minor)
  }

  public init(stringLiteral release: String) { self = Self(release: release) ?? Self(0, 0) }

  public var description: String { "\(major).\(minor)" }

  /// As people write it, "6.12", or as its two numbers.
  public init(from decoder: any Decoder) throws {
    if let text = try? decoder.singleValueContainer().decode(String.self) {
      guard let version = Self(release: text) else {
        throw DecodingError.dataCorrupted(
          .init(
            codingPath: decoder.codingPath,
            debugDescription: "a kernel's version is \"6.12\", not \"\(text)\""))
      }
      self = version
      return
    }
    let container = try decoder.container(keyedBy: CodingKeys.self)
    self.init(
      try container.decode(Int.self, forKey: .major), try container.decode(Int.self, forKey: .minor)
    )
  }

  private enum CodingKeys: CodingKey { case major, minor }

  public static func < (left: Self, right: Self) -> Bool {
    (left.major, left.minor) < (right.major, right.minor)
  }
}
