# There is no release yet, so no `url`: `brew install --HEAD` takes the main branch.
class Mlxnode < Formula
  desc "OpenAI-compatible inference server, native to Apple silicon through MLX"
  homepage "https://github.com/mlxnode/mlxnode"
  license "Apache-2.0"
  head "https://github.com/mlxnode/mlxnode.git", branch: "main"

  depends_on arch: :arm64
  depends_on macos: :sonoma
  depends_on "python@3.13"

  def install
    # MLX comes as a wheel with its Metal library, so the dependencies are wheels as well:
    # an environment with pip, which also fetches the demo models.
    system "python3.13", "-m", "venv", libexec
    system libexec/"bin/python", "-m", "pip", "install", "--no-cache-dir", buildpath
    bin.install_symlink libexec/"bin/mlxnode"
    pkgshare.install "config.toml"
  end

  service do
    run [opt_bin/"mlxnode", "serve"]
    keep_alive crashed: true
    log_path var/"log/mlxnode.log"
    error_log_path var/"log/mlxnode.log"
  end

  test do
    assert_match "mlxnode", shell_output("#{bin}/mlxnode --version")
    (testpath/"config.toml").write <<~TOML
      [api]
      enabled = false
    TOML
    assert_match "enabled = false", shell_output("#{bin}/mlxnode serve --config config.toml 2>&1")
  end
end
