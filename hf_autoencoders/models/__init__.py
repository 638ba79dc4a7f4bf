# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The four autoencoders. Importing this folder makes the Auto classes of transformers know them.

Everything here also travels: `save_pretrained` copies a model's file and the siblings it imports to the Hub, where
`trust_remote_code=True` runs them without this package. So a file here imports its siblings by name
(`from .sibling import name`), and else only torch, transformers, huggingface_hub, numpy and PIL.
"""

from transformers import AutoConfig, AutoImageProcessor, AutoModel

from .configuration_ae import AEConfig
from .configuration_dvae import DVAEConfig
from .configuration_image_token_lm import ImageTokenLMConfig
from .configuration_vae import VAEConfig
from .configuration_vqvae import VQVAEConfig
from .image_processing_autoencoder import AutoencoderImageProcessor, AutoencoderImageProcessorPil
from .modeling_ae import AEModel
from .modeling_dvae import DVAEModel
from .modeling_image_token_lm import ImageTokenLM
from .modeling_vae import VAEModel
from .modeling_vqvae import VQVAEModel
from .quantizer_base import Quantized as Quantized
from .quantizer_base import Quantizer as Quantizer
from .quantizers import register_quantizer as register_quantizer


MODELS = {AEConfig: AEModel, VAEConfig: VAEModel, VQVAEConfig: VQVAEModel, DVAEConfig: DVAEModel}
IMAGE_PROCESSORS = {"pil": AutoencoderImageProcessorPil, "torchvision": AutoencoderImageProcessor}

for config_class, model_class in {**MODELS, ImageTokenLMConfig: ImageTokenLM}.items():
    AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
    AutoModel.register(config_class, model_class, exist_ok=True)
    AutoImageProcessor.register(config_class, image_processor_classes=IMAGE_PROCESSORS, exist_ok=True)
    config_class.register_for_auto_class()
    model_class.register_for_auto_class("AutoModel")
for image_processor_class in IMAGE_PROCESSORS.values():
    image_processor_class.register_for_auto_class()
