internal import PVClock

/// A page among the vDSO's data pages.
public struct VDSOPage: Hashable, Sendable {
  /// The mapping's name: "[vvar_vclock]".
  public var mapping: String
  /// Its number within the mapping, from 0.
  public var number: Int
  public var address: UInt64

  public init(mapping: String, number: Int, address: UInt64) {
    self.mapping = mapping
    self.number = number
    self.address = address
  }

  public var place: String { "\(mapping) + \(number)" }
}

/// Where kernels put the host's record, for the vDSO of every process.
public enum RecordSearch {
  static let pageSize: UInt64 = 4096

  /// Where a kernel's own layout has the record: the first page of [vvar_vclock] since Linux 6.13, and the second one of
  /// [vvar] before.
  static func named(in pages: [VDSOPage]) -> VDSOPage? {
    pages.first { $0.mapping == "[vvar_vclock]" && $0.number == 0 }
      ?? pages.first { $0.mapping == "[vvar]" && $0.number == 1 }
  }

  /// The data pages of the vDSO, from `/proc/self/maps`.
  public static func pages(inMaps maps: String) -> [VDSOPage] {
    maps.split(separator: "\n").flatMap { line -> [VDSOPage] in
      let fields = line.split(separator: " ")
      guard let name = fields.last, name.hasPrefix("[vvar"), let range = fields.first else {
        return []
      }
      let ends = range.split(separator: "-").compactMap { UInt64($0, radix: 16) }
      guard ends.count == 2, ends[0] < ends[1], ends[1] - ends[0] <= 64 * pageSize else {
        return []
      }
      return (0..<Int((ends[1] - ends[0]) / pageSize)).map { number in
        VDSOPage(
          mapping: String(name), number: number, address: ends[0] + UInt64(number) * pageSize)
      }
    }
  }

  /// The page that holds a record: where it has its place, if what lies there has a scale, and else the first one that
  /// looks like a record in every field.
  ///
  /// - Parameters:
  ///   - bytes: the first 32 bytes of a page; nil if it can't be read.
  ///   - tsc: the TSC now.
  public static func record(
    in pages: [VDSOPage], tsc: UInt64, bytes: (UInt64) -> [UInt8]?
  ) -> VDSOPage? {
    if let page = named(in: pages),
      let record = bytes(page.address).flatMap(ClockPage.init(bytes:)),
      hasScale(record)
    {
      return page
    }
    return pages.first { page in
      bytes(page.address).flatMap(ClockPage.init(bytes:)).map { looksLikeRecord($0, tsc: tsc) }
        ?? false
    }
  }

  /// A multiplier and a shift that make a TSC of 100 MHz to 20 GHz.
  static func hasScale(_ page: ClockPage) -> Bool {
    guard page.scale.isNormalized, (-31...31).contains(page.tscShift) else { return false }
    return (100_000...20_000_000).contains(page.scale.tscKHz ?? 0)
  }

  /// Stricter than `hasScale`: in other pages other things lie.
  static func looksLikeRecord(_ page: ClockPage, tsc: UInt64) -> Bool {
    hasScale(page) && VersionProtocol.isConsistent(page.version) && page.version != 0
      && page.pad0 == 0 && page.pad == 0 && page.flags.intersection(.reserved).isEmpty
      && page.tscTimestamp <= tsc && page.systemTime < 1 << 62
  }
}
