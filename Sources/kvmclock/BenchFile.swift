import Reporting

/// A table of faults or policies on disk.
enum BenchFile {
  static func write(_ table: some Encodable & Sendable, to path: String) throws(Failure) {
    do { try ReportFile.write(JSONText.pretty(table), to: path) } catch { throw Failure(error) }
  }
}
